"""Asks the model: sends pieces the way of every request, at low priority, as many at a time as keep
its runners busy; and finds out which rows of a piece it is that cannot be answered.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import msgspec

from modelyard.core.call import Call, Outcome
from modelyard.core.clock import Clock
from modelyard.core.deadline import choose_timeout
from modelyard.core.errors import (
    CallsTooDeep,
    DeadlineExceeded,
    GivenUp,
    InvalidInput,
    Malformed,
    ModelCrashed,
    ModelNotFound,
    RequestError,
    TooLarge,
    Unavailable,
    VersionNotFound,
)
from modelyard.core.messages import Form, Request
from modelyard.dispatch.catalog import Entry
from modelyard.dispatch.dispatch import Ask, ClientCall, Dispatch
from modelyard.jobs.bulk.order import RowFailure
from modelyard.jobs.bulk.pieces import Piece
from modelyard.jobs.job import Leased

AHEAD_S = 0.1  # of the model's work that waits for it
MOST_AT_ONCE = 64
BATCHES = 2  # of each runner: one that runs, and one that waits for it
ROOM_S = 0.01  # how often it is looked whether there is room
ATTEMPTS = 3  # of what may have been an accident
PAUSE_S = 0.5
PATIENCE_S = 60.0
"""So long a model may be away; then the job is handed back, to go on later, maybe elsewhere."""

_ROW = re.compile(r"\$\.input_data\[(\d+)\](.*)")
_ACCIDENTS = (ModelCrashed, DeadlineExceeded)
_AWAY = (Unavailable, ModelNotFound, VersionNotFound)
_FOR_EVER = (InvalidInput, Malformed, TooLarge, CallsTooDeep)


class Answered(NamedTuple):
    """What came of a piece: outputs, each with the rows that it answers, and the other rows.

    ``model_s``: seconds of the model's time.
    """

    outputs: list[tuple[Piece, bytes]]
    failed: list[RowFailure]
    model_s: float


class Window:
    """How many pieces are under way, of one model, for all of its runs in this process."""

    def __init__(self) -> None:
        self.sent = 0
        self.most = BATCHES
        self.changed = asyncio.Event()

    def fit(self, entry: Entry, piece_s: float) -> None:
        """Let there be as many as the runners take in a moment; ``piece_s``: seconds of one."""
        known = entry.announcement
        runners = max(1, known.runners_ready) * max(1, known.concurrency)
        ahead = math.ceil(AHEAD_S * runners / piece_s) if piece_s > 0 else MOST_AT_ONCE
        self.most = max(BATCHES * runners, min(MOST_AT_ONCE, ahead))

    def leave(self) -> None:
        """Note that a piece is no longer under way."""
        self.sent -= 1
        self.changed.set()


class RowAsker:
    """Answers pieces of rows: each is one request.

    Args:
        dispatch: Answers them.
        job: That they are of.
        version: Of the model that is asked.
        window: How many may be under way.
        is_over: Whether no more are to be sent.
        clock: Deadlines are readings of it.
    """

    def __init__(
        self,
        dispatch: Dispatch,
        job: Leased,
        version: str,
        window: Window,
        is_over: Callable[[], bool],
        *,
        clock: Clock,
    ) -> None:
        self._clock = clock
        self._dispatch = dispatch
        self._job = job
        self._version = version
        self._window = window
        self._is_over = is_over
        self._calls: set[Call] = set()

    async def has_room(self) -> None:
        """See ``run.Asker``."""
        away_s = 0.0
        while True:
            if self._is_over():
                raise GivenUp("the run goes on elsewhere, or is no longer wanted")
            entry = self._entry()
            limits = None if entry is None else entry.announcement.limits
            if entry is not None and limits is not None and entry.is_open:
                away_s = 0.0
                is_free = entry.in_flight < max(1, limits.max_in_flight // 2)
                if is_free and self._window.sent < self._window.most:
                    return
                self._window.changed.clear()
                try:
                    async with asyncio.timeout(ROOM_S if not is_free else 1.0):
                        await self._window.changed.wait()
                except TimeoutError:
                    pass
                continue
            if away_s >= PATIENCE_S:
                raise Unavailable(f"{self._job.model}/{self._version} is away", retry_after_s=30)
            await asyncio.sleep(PAUSE_S)
            away_s += PAUSE_S

    def _entry(self) -> Entry | None:
        try:
            return self._dispatch.catalog.resolve(self._job.model, self._version)
        except RequestError:
            return None

    def send(self, piece: Piece) -> asyncio.Future[tuple[Outcome, float]]:
        """See ``run.Asker``."""
        answer: asyncio.Future[tuple[Outcome, float]]
        answer = asyncio.get_running_loop().create_future()
        window = self._window
        window.sent += 1
        ask = Ask(
            self._job.model, msgspec.Raw(piece.body), self._version, self._job.timeout_s, "low"
        )
        try:
            call = start_alone(
                self._dispatch,
                ask,
                partial(self._on_answered, answer),
                f"{self._job.uid}-{piece.mark.row}",
                job=self._job,
                clock=self._clock,
            )
            if call.outcome is None:
                self._calls.add(call)
                call.watch(self._calls.discard)
        except RequestError as error:
            window.leave()
            answer.set_result((error, 0.0))
        return answer

    def give_up(self) -> None:
        """Wait for nothing any longer."""
        for call in list(self._calls):
            call.settle(GivenUp("the run goes on elsewhere, or is no longer wanted"))

    def _on_answered(self, answer: asyncio.Future[tuple[Outcome, float]], call: ClientCall) -> None:
        assert call.outcome is not None
        model_s = call.instance_s * call.instances if call.instance_s else 0.0
        if model_s:
            self._window.fit(call.entry, model_s)
        self._window.leave()
        if not answer.done():
            answer.set_result((call.outcome, model_s))

    async def settle(self, piece: Piece, outcome: Outcome, model_s: float) -> Answered:
        """See ``run.Asker``."""
        outputs: list[tuple[Piece, bytes]] = []
        failed = list(piece.bad)
        spent = [model_s]
        if not isinstance(outcome, bytes):
            await self._apart(piece, outcome, outputs, failed, spent)
        elif piece.numbers:
            outputs.append((piece, outcome))
        return Answered(outputs, failed, sum(spent))

    async def _apart(
        self,
        piece: Piece,
        error: RequestError,
        outputs: list[tuple[Piece, bytes]],
        failed: list[RowFailure],
        spent: list[float],
    ) -> None:
        """Ask again without the row at fault if it is known, else in halves."""
        accidents = 0
        while True:
            count = len(piece.numbers)
            if isinstance(error, GivenUp):
                raise error
            if isinstance(error, _FOR_EVER) and (at := _row_in(error, count)) is not None:
                row, where = at
                failed.append(_failure(piece, row, error, where))
                parts = [(0, row), (row + 1, count)]
            elif isinstance(error, _AWAY):
                parts = [(0, count)]
                await asyncio.sleep(PAUSE_S)
            elif count > 1:
                parts = [(0, count // 2), (count // 2, count)]
            elif isinstance(error, _ACCIDENTS) and accidents < ATTEMPTS:
                accidents += 1
                parts = [(0, count)]
                await asyncio.sleep(PAUSE_S * 2**accidents)
            else:
                failed.append(_failure(piece, 0, error, error.where))
                return
            again = None
            for first, end in parts:
                if first == end:
                    continue
                part = piece.part(first, end)
                await self.has_room()
                outcome, model_s = await self.send(part)
                spent.append(model_s)
                if isinstance(outcome, bytes):
                    outputs.append((part, outcome))
                elif end - first == count:
                    again = outcome
                else:
                    await self._apart(part, outcome, outputs, failed, spent)
            if again is None:
                return
            error = again


def start_alone(
    dispatch: Dispatch,
    ask: Ask,
    on_answered: Callable[[ClientCall], None],
    request_id: str,
    *,
    job: Leased,
    clock: Clock,
    form: Form = "json",
) -> ClientCall:
    """Begin to answer a request whose answer is put into no cache: nobody asks for it again.

    Raises:
        RequestError: See ``Dispatch.start``.
    """
    entry = dispatch.catalog.resolve(ask.model_name, ask.model_version)
    if entry.is_special:
        tenant = bytes.fromhex(job.tenant)
        return dispatch.start(
            *(ask, on_answered, request_id),
            form=form,
            is_bypass=True,
            tenant=tenant,
            caller=job.key,
        )
    timeout_s = choose_timeout(
        ask.timeout_s, model_s=entry.announcement.limits.timeout_s, cap_s=dispatch.timeout_cap_s
    )
    raw, deadline = memoryview(ask.input_data), clock() + timeout_s
    request = Request(request_id, entry.target, raw, deadline, ask.priority, form, job.key)
    call = ClientCall(request, entry, on_answered)
    dispatch.send_alone(call)
    return call


def _row_in(error: RequestError, count: int) -> tuple[int, str | None] | None:
    """Return which row of a piece an error names, and the place in it."""
    found = _ROW.fullmatch(error.where or "")
    if found is None or int(found[1]) >= count:
        return None
    return int(found[1]), (f"${found[2]}" if found[2] else None)


def _failure(piece: Piece, row: int, error: RequestError, where: str | None) -> RowFailure:
    return RowFailure(piece.numbers[row], error.code, error.detail, where)
