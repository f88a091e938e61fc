"""Files to and from a gateway, piece by piece, with httpx2: of any size, in little memory."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import httpx2

from .batches import FORMATS, BatchFormat
from .errors import ConnectionFailed, error_of
from .exchange import Reply
from .frames import is_frame, lines_of
from .wire import CONNECT_TIMEOUT_S, reply_of

PIECE_BYTES = 1 << 20
SILENT_S = 60.0


@contextlib.contextmanager
def opened(data: Any, given: BatchFormat | None) -> Iterator[tuple[IO[bytes], BatchFormat]]:
    """Give the stream of a path or a data frame, and what is in it.

    Raises:
        ValueError: The name of a file does not say what is in it.
        TypeError: It is neither.
        OSError: The file cannot be read.
    """
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


def send_file(http: httpx2.Client, path: str, stream: IO[bytes]) -> Reply:
    """Send a file, and return the answer.

    Raises:
        ConnectionFailed: There was none.
        ModelyardError: It was refused.
    """
    size = os.fstat(stream.fileno()).st_size
    headers = {"content-length": str(size), "content-type": "application/octet-stream"}
    try:
        with http.stream(
            *("POST", path), headers=headers, content=_pieces(stream), extensions=_timeouts()
        ) as response:
            reply = reply_of(response, bytearray(response.read()))
    except httpx2.RequestError as error:
        raise ConnectionFailed(f"the file was not sent: {error}") from error
    if not reply.is_success:
        raise error_of(reply.status, reply.body, retry_after_s=reply.retry_after_s)
    return reply


@contextlib.contextmanager
def fetched(http: httpx2.Client, path: str, offset: int) -> Iterator[Iterator[bytes]]:
    """Give what is at a path, from an offset on.

    Raises:
        ModelyardError: It is not there, or the connection was lost.
    """
    headers = {"range": f"bytes={offset}-"} if offset else {}
    try:
        with http.stream("GET", path, headers=headers, extensions=_timeouts()) as response:
            if response.status_code not in (200, 206):
                raise error_of(response.status_code, response.read(), retry_after_s=None)
            yield response.iter_bytes(PIECE_BYTES)
    except httpx2.RequestError as error:
        raise ConnectionFailed(f"the file was not fetched: {error}") from error


def _pieces(stream: IO[bytes]) -> Iterator[bytes]:
    while piece := stream.read(PIECE_BYTES):
        yield piece


def _timeouts() -> dict[str, Any]:
    silent_s = SILENT_S
    return {
        "timeout": {
            **{"pool": silent_s, "connect": CONNECT_TIMEOUT_S},
            **{"write": silent_s, "read": silent_s},
        }
    }
