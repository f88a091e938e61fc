"""Files to and from a gateway, piece by piece, with httpx2: of any size, in little memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import httpx2

from .batches import FORMATS, BatchFormat, BatchTerms, read_batch, upload_path
from .errors import ConnectionFailed, error_of
from .exchange import Reply
from .frames import is_frame, lines_of
from .wire import CONNECT_TIMEOUT_S, reply_of

PIECE_BYTES = 1 << 20
SILENT_S = 60.0


class Rows(NamedTuple):
    """What a bulk run is made of: a path or a data frame, and what its caller says of it."""

    data: Any
    format: BatchFormat | None
    model: str
    terms: BatchTerms
    callback: str | None


def send_rows(http: httpx2.Client, batch_id: str, rows: Rows) -> None:
    """Make a bulk run.

    Raises:
        ConnectionFailed: There was no answer.
        ModelyardError: It was refused.
        ValueError, TypeError, OSError: There is no such file, or nothing is known of it.
    """
    with _opened(rows.data, rows.format) as (stream, kind), _sending():
        path = upload_path(batch_id, rows.model, kind, rows.terms)
        with http.stream("POST", path, content=_pieces(stream), **_of(stream, rows)) as response:
            _check(reply_of(response, bytearray(response.read())))


async def send_rows_async(http: httpx2.AsyncClient, batch_id: str, rows: Rows) -> None:
    """Do as ``send_rows``, with asyncio."""
    with _opened(rows.data, rows.format) as (stream, kind), _sending():
        path = upload_path(batch_id, rows.model, kind, rows.terms)
        content = _pieces_async(stream)
        async with http.stream("POST", path, content=content, **_of(stream, rows)) as response:
            _check(reply_of(response, bytearray(await response.aread())))


@contextlib.contextmanager
def fetched(http: httpx2.Client, path: str, offset: int) -> Iterator[Iterator[bytes]]:
    """Give what is at a path, from an offset on.

    Raises:
        ModelyardError: It is not there, or the connection was lost.
    """
    with _fetching(), http.stream(*("GET", path), **_from(offset)) as response:
        if response.status_code not in (200, 206):
            raise error_of(response.status_code, response.read(), retry_after_s=None)
        yield response.iter_bytes(PIECE_BYTES)


@contextlib.asynccontextmanager
async def fetched_async(
    http: httpx2.AsyncClient, path: str, offset: int
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Do as ``fetched``, with asyncio."""
    with _fetching():
        async with http.stream(*("GET", path), **_from(offset)) as response:
            if response.status_code not in (200, 206):
                raise error_of(response.status_code, await response.aread(), retry_after_s=None)
            yield response.aiter_bytes(PIECE_BYTES)


@contextlib.contextmanager
def _sending() -> Iterator[None]:
    try:
        yield
    except httpx2.RequestError as error:
        raise ConnectionFailed(f"the file was not sent: {error}") from error


@contextlib.contextmanager
def _fetching() -> Iterator[None]:
    try:
        yield
    except httpx2.RequestError as error:
        raise ConnectionFailed(f"the file was not fetched: {error}") from error


def _check(reply: Reply) -> None:
    if not reply.is_success:
        raise error_of(reply.status, reply.body, retry_after_s=reply.retry_after_s)
    read_batch(reply)


@contextlib.contextmanager
def _opened(data: Any, given: BatchFormat | None) -> Iterator[tuple[IO[bytes], BatchFormat]]:
    """Give the stream of a path or a data frame, and what is in it."""
    if is_frame(data):
        with tempfile.TemporaryFile() as stream:
            for line in lines_of(data):
                stream.write(line)
            stream.seek(0)
            yield stream, "jsonl"
        return
    if not isinstance(data, str | os.PathLike):
        raise TypeError(f"a bulk run is made of a file or a data frame, not {type(data).__name__}")
    path = Path(data)
    kind = given or FORMATS.get(path.suffix[1:].lower())
    if kind is None:
        endings = ", ".join(f".{ending}" for ending in FORMATS)
        raise ValueError(f"{path}: its format is not known by its name ({endings}); say it")
    with path.open("rb") as file:
        yield file, kind


def _of(stream: IO[bytes], rows: Rows) -> dict[str, Any]:
    """Return what is said of a file that is sent."""
    size = os.fstat(stream.fileno()).st_size
    headers = {"content-length": str(size), "content-type": "application/octet-stream"}
    if rows.callback is not None:
        headers["job-callback"] = rows.callback
    return {"headers": headers, "extensions": _timeouts()}


def _from(offset: int) -> dict[str, Any]:
    headers = {"range": f"bytes={offset}-"} if offset else {}
    return {"headers": headers, "extensions": _timeouts()}


def _pieces(stream: IO[bytes]) -> Iterator[bytes]:
    while piece := stream.read(PIECE_BYTES):
        yield piece


async def _pieces_async(stream: IO[bytes]) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(stream.read, PIECE_BYTES):
        yield piece


def _timeouts() -> dict[str, Any]:
    silent_s = SILENT_S
    return {
        "timeout": {
            **{"pool": silent_s, "connect": CONNECT_TIMEOUT_S},
            **{"write": silent_s, "read": silent_s},
        }
    }
