"""``Batch``: a bulk run, to be waited for and fetched."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from .batches import (
    BatchInfo,
    FailedRow,
    batch_call,
    cancel_batch_call,
    failures_in,
    file_path,
    predictions_in,
)
from .calls import Call
from .errors import Conflict, DeadlineExceeded
from .frames import with_predictions

LOOK_S = 0.5
"""How often a gateway is asked how far a run is, if somebody wants to know."""

WAIT_S = 30.0
T = TypeVar("T")


class Run(Protocol):
    """Asks the gateway, and waits for its answer."""

    def __call__(self, call: Call[T], /) -> T: ...


Fetch = Callable[[str, int], AbstractContextManager[Iterator[bytes]]]
"""Gives the bytes at a path from an offset on."""


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
        give_up = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            wait_s = WAIT_S if give_up is None else min(WAIT_S, give_up - time.monotonic())
            if wait_s <= 0:
                raise DeadlineExceeded(
                    f"the bulk run {self.id} is not at its end after {timeout_s} s"
                )
            info = self._run(batch_call(self.id, wait_s=wait_s))
            if on_progress is not None:
                on_progress(info)
            if info.is_over:
                return info
            time.sleep(min(LOOK_S, wait_s))

    def cancel(self) -> BatchInfo:
        """End the run; a ``Conflict`` if it has come to its end already."""
        return self._run(cancel_batch_call(self.id))

    def download(
        self, path: str | os.PathLike[str], what: Literal["output", "errors"] = "output"
    ) -> None:
        """Write the output of a run that has succeeded, or its failures, to a file.

        What was interrupted goes on where it was; the file is there when it is whole.
        """
        target = Path(path)
        part = target.with_name(f"{target.name}.part")
        offset = part.stat().st_size if part.exists() else 0
        with self._fetch(file_path(self.id, what), offset) as pieces, part.open("ab") as file:
            for piece in pieces:
                file.write(piece)
        part.replace(target)

    def result(self, timeout_s: float | None = None) -> Any:
        """Wait for the run's end, and return its predictions: one for each row, None where there is
        none. If it was made of a data frame here, that is returned with a column ``prediction``.

        Its output has to be JSON Lines, as that of a data frame is.

        Raises:
            Conflict: It failed or was cancelled.
        """
        info = self.wait(timeout_s)
        if info.state != "succeeded":
            why = f": {info.error.detail}" if info.error is not None else ""
            raise Conflict(f"the bulk run {self.id} has {info.state}{why}")
        with self._fetch(file_path(self.id, "output"), 0) as pieces:
            predictions = predictions_in(_lines(pieces), info.rows.done)
        return predictions if self._frame is None else with_predictions(self._frame, predictions)

    def errors(self) -> list[FailedRow]:
        """Return the rows that have no prediction, of a run that has succeeded."""
        with self._fetch(file_path(self.id, "errors"), 0) as pieces:
            return failures_in(_lines(pieces))


def _lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from whole
    if rest:
        yield rest
