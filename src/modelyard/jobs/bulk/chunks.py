"""Keeps what came of pieces, chunk by chunk: one ends when it is large enough, or a second old."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import NamedTuple

import msgspec

from modelyard.core.errors import GivenUp
from modelyard.jobs.bulk.asking import Answered
from modelyard.jobs.bulk.interfaces import BulkBook, Place
from modelyard.jobs.bulk.order import Chunk, Mark, RowFailure

CHUNK_S = 1.0
CHUNK_BYTES = 4 << 20
ROW_BYTES = 24  # of a line, beside the prediction


class Lines(NamedTuple):
    """How what comes of rows is written: what came of a piece, and a row that has failed."""

    outputs: Callable[[Answered], bytes]
    failure: Callable[[RowFailure], bytes]


def part_name(uid: str, chunk: Chunk, what: str) -> str:
    """Return where the outputs (``out``) or failures (``err``) of a chunk are."""
    return f"runs/{uid}/{chunk.number:08d}-{chunk.attempt}.{what}"


class Chunks:
    """The chunks of one run.

    Args:
        uid: Of its job.
        attempt: Of that.
        book: Keeps them.
        place: Has their files.
        before: Those that are there already.
        lines: How they are written.
        input_bytes: What the input takes in the place: it counts with the first chunk.
    """

    def __init__(
        self,
        uid: str,
        attempt: int,
        *,
        book: BulkBook,
        place: Place,
        before: Sequence[Chunk],
        lines: Lines,
        input_bytes: int,
    ) -> None:
        self._input_bytes = input_bytes
        self._lines = lines
        self._uid = uid
        self._attempt = attempt
        self._book = book
        self._place = place
        self.number = len(before)
        self.mark = before[-1].mark if before else Mark()
        self._answered: list[Answered] = []
        self._bytes = 0
        self._begun = time.monotonic()
        self._next = self.mark

    def add(self, answered: Answered, mark: Mark) -> bool:
        """Add what came of the next piece; returns whether the chunk is full."""
        if not self._answered:
            self._begun = time.monotonic()
        self._answered.append(answered)
        for output in answered.outputs:
            self._bytes += len(output.answer) + ROW_BYTES * len(output.numbers)
        self._next = mark
        is_old = time.monotonic() - self._begun >= CHUNK_S
        return is_old or self._bytes >= CHUNK_BYTES

    def take(self) -> Gathered | None:
        """Return what was added, to be kept; None if nothing was."""
        if self._next == self.mark:
            return None
        gathered = Gathered(self._answered, self.number, self._next, self._next.row - self.mark.row)
        self.number += 1
        self._answered, self._bytes, self.mark = [], 0, self._next
        return gathered

    def keep(self, gathered: Gathered, progress: float | None) -> Chunk:
        """Keep a chunk. Blocks.

        Raises:
            GivenUp: Another attempt has the job by now.
            BookAway, PlaceAway: It cannot be kept now.
        """
        failed = [failure for one in gathered.answered for failure in one.failed]
        chunk = Chunk(
            number=gathered.number,
            attempt=self._attempt,
            rows=gathered.rows,
            failed=len(failed),
            mark=gathered.mark,
            bytes=0,
            model_s=sum(one.model_s for one in gathered.answered),
        )
        size = 0 if chunk.number else self._input_bytes
        with ExitStack() as stack:
            name = part_name(self._uid, chunk, "out")
            stream = stack.enter_context(self._place.writing(name))
            for one in gathered.answered:
                block = self._lines.outputs(one)
                size += len(block)
                stream.write(block)
                time.sleep(0)  # others may want the interpreter
        if failed:
            with self._place.writing(part_name(self._uid, chunk, "err")) as stream:
                for failure in sorted(failed, key=lambda one: one.row):
                    line = self._lines.failure(failure)
                    size += len(line)
                    stream.write(line)
        chunk = msgspec.structs.replace(chunk, bytes=size)
        if not self._book.keep(self._uid, chunk, progress=progress):
            raise GivenUp("the run goes on elsewhere, or is no longer wanted")
        return chunk


class Gathered(msgspec.Struct, frozen=True):
    """A chunk that is to be kept."""

    answered: list[Answered]
    number: int
    mark: Mark
    rows: int
