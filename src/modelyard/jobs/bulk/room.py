"""How much of a model bulk runs take: as many requests at a time as keep its runners busy."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable

from modelyard.core.errors import GivenUp, RequestError, Unavailable
from modelyard.dispatch.dispatch import Dispatch
from modelyard.dispatch.entry import Entry
from modelyard.jobs.job import Leased

AHEAD_S = 0.1  # of the model's work that waits for it
MOST_AT_ONCE = 64
BATCHES = 2  # of each runner: one that runs, and one that waits for it
PIECE_S = 0.002  # of the model's work in a piece, unless one batch takes longer
PIECE_ANSWER_BYTES = 256 << 10  # likewise, of its answer
STEADY = 0.8  # how much of what was known of the model's pace stays with each answer
ROOM_S = 0.01  # how often it is looked whether there is room
PAUSE_S = 0.5
PATIENCE_S = 60.0
"""So long a model may be away; then the job is handed back, to go on later, maybe elsewhere."""


class Window:
    """How many requests are under way, of one model, for all of its runs in this process; and how
    many rows each of them has. Of a model that is done with a batch in microseconds a request has
    many batches: what it costs to ask is then spread over their rows, and the next caller waits no
    longer than for one batch of a slower model.

    Attributes:
        sent: How many requests are under way.
        most: How many may be.
        batches: How many batches a request should have.
    """

    def __init__(self) -> None:
        self.sent = 0
        self.most = BATCHES
        self.batches = 1
        self.changed = asyncio.Event()
        self._row_s = 0.0

    def fit(self, entry: Entry, *, rows: int, model_s: float, answer_bytes: int) -> None:
        """Learn from a request that was answered. ``model_s``: seconds of the model's time."""
        if not model_s:
            return
        self._row_s += (model_s / rows - self._row_s) * ((1 - STEADY) if self._row_s else 1)
        known = entry.announcement
        runners = max(1, known.runners_ready) * max(1, known.concurrency)
        batch_s = self._row_s * known.max_batch_size
        batch_bytes = max(1, answer_bytes * known.max_batch_size // rows)
        self.batches = max(1, min(int(PIECE_S / batch_s), PIECE_ANSWER_BYTES // batch_bytes))
        ahead = math.ceil(AHEAD_S * runners / (batch_s * self.batches))
        self.most = max(BATCHES * runners, min(MOST_AT_ONCE, ahead))


class Room:
    """Says when one more request of a run may be sent.

    Args:
        dispatch: Knows the model.
        job: Of the run.
        window: Of the model.
        is_over: Whether no more are to be sent.
        is_single: Whether a request has a single instance: then there are batches under way.
    """

    def __init__(
        self,
        dispatch: Dispatch,
        job: Leased,
        window: Window,
        is_over: Callable[[], bool],
        *,
        is_single: bool,
    ) -> None:
        self._dispatch = dispatch
        self._job = job
        self._window = window
        self._is_over = is_over
        self._is_single = is_single

    def enter(self) -> None:
        """Note that a request is sent."""
        self._window.sent += 1

    def leave(self) -> None:
        """Note that it is answered."""
        self._window.sent -= 1
        self._window.changed.set()

    def fit(self, entry: Entry, *, rows: int, model_s: float, answer_bytes: int) -> None:
        """See ``Window``."""
        self._window.fit(entry, rows=rows, model_s=model_s, answer_bytes=answer_bytes)

    async def wait(self) -> None:
        """Wait until one more may be sent.

        Raises:
            GivenUp: No more are.
            Unavailable: The model is away, for long.
        """
        away_s = 0.0
        while away_s < PATIENCE_S:
            if self._is_over():
                raise GivenUp("the run goes on elsewhere, or is no longer wanted")
            entry = self._entry()
            if entry is None or not entry.is_open:
                await asyncio.sleep(PAUSE_S)
                away_s += PAUSE_S
                continue
            away_s = 0.0
            if entry.in_flight >= max(1, entry.announcement.limits.max_in_flight // 2):
                await asyncio.sleep(ROOM_S)
            elif self._window.sent < self._most(entry):
                return
            else:
                self._window.changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PAUSE_S):
                        await self._window.changed.wait()
        raise Unavailable(f"{self._job.model} is away, or that version of it", retry_after_s=30)

    def _most(self, entry: Entry) -> int:
        if not self._is_single:
            return self._window.most
        return max(self._window.most, min(MOST_AT_ONCE, BATCHES * entry.one_batch))

    def _entry(self) -> Entry | None:
        try:
            return self._dispatch.catalog.resolve(self._job.model, self._job.version)
        except RequestError:
            return None
