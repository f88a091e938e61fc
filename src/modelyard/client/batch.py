"""``Batch`` and ``AsyncBatch``: a bulk run, to be waited for and fetched."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import Any, Literal, TypeAlias

from .batches import (
    BatchInfo,
    FailedRow,
    batch_call,
    cancel_batch_call,
    failures_in,
    file_path,
    predictions_in,
)
from .calls import AsyncRun, Run
from .errors import Conflict, DeadlineExceeded
from .frames import with_predictions

LOOK_S = 0.5
"""How often a gateway is asked how far a run is, if somebody wants to know."""

WAIT_S = 30.0

What: TypeAlias = Literal["output", "errors"]
Fetch = Callable[[str, int], AbstractContextManager[Iterator[bytes]]]
"""Gives the bytes at a path from an offset on."""

AsyncFetch = Callable[[str, int], AbstractAsyncContextManager[AsyncIterator[bytes]]]


class Batch:
    """A bulk run at a gateway. Threads may share one.

    Attributes:
        id: Its name, with which ``Client.find_batch`` finds it again.
    """

    def __init__(self, batch_id: str, run: Run, fetch: Fetch, *, frame: Any = None) -> None:
        self.id = batch_id
        self._run = run
        self._fetch = fetch
        self._frame = frame

    def __repr__(self) -> str:
        return f"Batch({self.id!r})"

    def info(self) -> BatchInfo:
        """Return the run as it is now."""
        return self._run(batch_call(self.id))

    def wait(
        self,
        timeout_s: float | None = None,
        *,
        on_progress: Callable[[BatchInfo], None] | None = None,
    ) -> BatchInfo:
        """Wait for the run's end, and return it.

        Args:
            timeout_s: How long at most; for ever unless given.
            on_progress: Called every now and then with the run as it is.

        Raises:
            DeadlineExceeded: That took longer than ``timeout_s``; the run goes on.
        """
        for wait_s in _waits(self.id, timeout_s):
            info = self._run(batch_call(self.id, wait_s=wait_s))
            if on_progress is not None:
                on_progress(info)
            if info.is_over:
                return info
            time.sleep(min(LOOK_S, wait_s))
        raise AssertionError

    def cancel(self) -> BatchInfo:
        """End the run; a ``Conflict`` if it has come to its end already."""
        return self._run(cancel_batch_call(self.id))

    def download(self, path: str | os.PathLike[str], what: What = "output") -> None:
        """Write the output of a run that has succeeded, or its failures, to a file.

        What was interrupted goes on where it was; the file is there when it is whole.
        """
        part, offset = _part_of(path)
        with self._fetch(file_path(self.id, what), offset) as pieces, part.open("ab") as file:
            for piece in pieces:
                file.write(piece)
        part.replace(path)

    def result(self, timeout_s: float | None = None) -> Any:
        """Wait for the run's end, and return its predictions: one for each row, None where there is
        none. If it was made of a data frame here, that is returned with a column ``prediction``.

        Its output has to be JSON Lines, as that of a data frame is.

        Raises:
            Conflict: It failed or was cancelled.
        """
        info = _succeeded(self.wait(timeout_s))
        with self._fetch(file_path(self.id, "output"), 0) as pieces:
            predictions = predictions_in(_lines(pieces), info.rows.done)
        return predictions if self._frame is None else with_predictions(self._frame, predictions)

    def errors(self) -> list[FailedRow]:
        """Return the rows that have no prediction, of a run that has succeeded."""
        with self._fetch(file_path(self.id, "errors"), 0) as pieces:
            return failures_in(_lines(pieces))


class AsyncBatch:
    """A bulk run at a gateway, with asyncio; see ``Batch``."""

    def __init__(
        self, batch_id: str, run: AsyncRun, fetch: AsyncFetch, *, frame: Any = None
    ) -> None:
        self.id = batch_id
        self._run = run
        self._fetch = fetch
        self._frame = frame

    def __repr__(self) -> str:
        return f"AsyncBatch({self.id!r})"

    async def info(self) -> BatchInfo:
        """Return the run as it is now."""
        return await self._run(batch_call(self.id))

    async def wait(
        self,
        timeout_s: float | None = None,
        *,
        on_progress: Callable[[BatchInfo], None] | None = None,
    ) -> BatchInfo:
        """Wait for the run's end, and return it; see ``Batch.wait``."""
        for wait_s in _waits(self.id, timeout_s):
            info = await self._run(batch_call(self.id, wait_s=wait_s))
            if on_progress is not None:
                on_progress(info)
            if info.is_over:
                return info
            await asyncio.sleep(min(LOOK_S, wait_s))
        raise AssertionError

    async def cancel(self) -> BatchInfo:
        """End the run; see ``Batch.cancel``."""
        return await self._run(cancel_batch_call(self.id))

    async def download(self, path: str | os.PathLike[str], what: What = "output") -> None:
        """Write the output, or the failures, to a file; see ``Batch.download``."""
        part, offset = _part_of(path)
        async with self._fetch(file_path(self.id, what), offset) as pieces:
            file = await asyncio.to_thread(part.open, "ab")
            with file:
                async for piece in pieces:
                    await asyncio.to_thread(file.write, piece)
        part.replace(path)

    async def result(self, timeout_s: float | None = None) -> Any:
        """Wait for the run's end, and return its predictions; see ``Batch.result``."""
        info = _succeeded(await self.wait(timeout_s))
        predictions = predictions_in(await self._lines("output"), info.rows.done)
        return predictions if self._frame is None else with_predictions(self._frame, predictions)

    async def errors(self) -> list[FailedRow]:
        """Return the rows that have no prediction, of a run that has succeeded."""
        return failures_in(await self._lines("errors"))

    async def _lines(self, what: What) -> Iterator[bytes]:
        async with self._fetch(file_path(self.id, what), 0) as pieces:
            found = [piece async for piece in pieces]
        return _lines(iter(found))


def _waits(batch_id: str, timeout_s: float | None) -> Iterator[float]:
    """Yield how long to wait, again and again.

    Raises:
        DeadlineExceeded: The time is over.
    """
    give_up = None if timeout_s is None else time.monotonic() + timeout_s
    while give_up is None or (left_s := give_up - time.monotonic()) > 0:
        yield WAIT_S if give_up is None else min(WAIT_S, left_s)
    raise DeadlineExceeded(f"the bulk run {batch_id} is not at its end after {timeout_s} s")


def _succeeded(info: BatchInfo) -> BatchInfo:
    if info.state != "succeeded":
        why = f": {info.error.detail}" if info.error is not None else ""
        raise Conflict(f"the bulk run {info.id} has {info.state}{why}")
    return info


def _part_of(path: str | os.PathLike[str]) -> tuple[Path, int]:
    """Return where a file is until it is whole, and how much of it is there."""
    target = Path(path)
    part = target.with_name(f"{target.name}.part")
    return part, part.stat().st_size if part.exists() else 0


def _lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from whole
    if rest:
        yield rest
