"""Asks the model: sends pieces the way of every request, at low priority, as many at a time as keep
its runners busy; and finds out which rows of a piece it is that cannot be answered.
"""

from __future__ import annotations

import asyncio
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

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
    as_request_error,
)
from modelyard.core.messages import Form, Request
from modelyard.dispatch.dispatch import Ask, ClientCall, Dispatch
from modelyard.jobs.bulk.order import RowFailure
from modelyard.jobs.bulk.pieces import Piece
from modelyard.jobs.bulk.room import Room
from modelyard.jobs.job import WHERE_LOGGED, Leased

log = logging.getLogger(__name__)

ATTEMPTS = 3  # of what may have been an accident
PAUSE_S = 0.5
_ROW = re.compile(r"\$\.input_data\[(\d+)\](.*)")
ACCIDENTS = (ModelCrashed, DeadlineExceeded)
_AWAY = (Unavailable, ModelNotFound, VersionNotFound)
_FOR_EVER = (InvalidInput, Malformed, TooLarge, CallsTooDeep)


Answer = asyncio.Future[tuple[Outcome, float]]
"""The outcome of a piece, and seconds of the model's time."""


class Output(NamedTuple):
    """The predictions of some rows: their numbers, what is kept of each, and the answer."""

    numbers: Sequence[int]
    kept: Sequence[Sequence[Any]]
    answer: bytes


class Answered(NamedTuple):
    """What came of a piece: outputs, and the rows that have none.

    ``model_s``: seconds of the model's time.
    """

    outputs: list[Output]
    failed: list[RowFailure]
    model_s: float


class PieceSender(ABC):
    """Sends the pieces of one run; see ``run.Asker``.

    Args:
        dispatch: Answers them.
        job: That they are of.
        room: Says when one more may be sent.
        clock: Deadlines are readings of it.
    """

    def __init__(self, dispatch: Dispatch, job: Leased, room: Room, *, clock: Clock) -> None:
        self._dispatch = dispatch
        self._job = job
        self._room = room
        self._clock = clock
        self._calls: set[Call] = set()

    async def has_room(self) -> None:
        """See ``run.Asker``."""
        await self._room.wait()

    def send(self, piece: Piece) -> Answer:
        """See ``run.Asker``."""
        answer: Answer = asyncio.get_running_loop().create_future()
        self._room.enter()
        try:
            call = self._start(piece, answer)
            if call.outcome is None:
                self._calls.add(call)
                call.watch(self._calls.discard)
        except Exception as error:
            self._room.leave()
            told = as_request_error(error, log, self._job.uid, see=WHERE_LOGGED)
            answer.set_result((told, 0.0))
        return answer

    def give_up(self) -> None:
        """Wait for nothing any longer."""
        for call in list(self._calls):
            call.settle(GivenUp("the run goes on elsewhere, or is no longer wanted"))

    @abstractmethod
    def _start(self, piece: Piece, answer: Answer) -> ClientCall:
        """Begin to answer a piece; ``answer`` gets the outcome, and the model's seconds.

        Raises:
            RequestError: It cannot be.
        """


class RowAsker(PieceSender):
    """Answers pieces of rows: each is one request.

    Args:
        dispatch, job, room, clock: See ``PieceSender``.
        batch: How many rows the model takes at a time.
    """

    def __init__(
        self, dispatch: Dispatch, job: Leased, room: Room, *, clock: Clock, batch: int
    ) -> None:
        super().__init__(dispatch, job, room, clock=clock)
        self._batch = batch

    def _start(self, piece: Piece, answer: Answer) -> ClientCall:
        job = self._job
        return start_alone(
            self._dispatch,
            Ask(job.model, msgspec.Raw(piece.body), job.version, job.timeout_s, "low"),
            partial(self._on_answered, answer),
            f"{job.uid}-{piece.mark.row}",
            job=job,
            clock=self._clock,
            instances=len(piece.numbers),
        )

    def _on_answered(self, answer: Answer, call: ClientCall) -> None:
        outcome, rows = call.outcome, call.instances
        assert outcome is not None
        model_s = call.instance_s * rows
        if isinstance(outcome, bytes):
            size = len(outcome)
            self._room.fit(call.entry, rows=rows, model_s=model_s, answer_bytes=size)
        self._room.leave()
        if not answer.done():
            answer.set_result((outcome, model_s))

    async def settle(self, piece: Piece, outcome: Outcome, model_s: float) -> Answered:
        """See ``run.Asker``."""
        outputs: list[Output] = []
        failed = list(piece.bad)
        spent = [model_s]
        if not isinstance(outcome, bytes):
            await self._apart(piece, outcome, outputs, failed, spent)
            outputs.sort(key=lambda one: one.numbers[0])
        elif piece.numbers:
            outputs.append(Output(piece.numbers, piece.kept, outcome))
        return Answered(outputs, failed, sum(spent))

    async def _apart(
        self,
        piece: Piece,
        error: RequestError,
        outputs: list[Output],
        failed: list[RowFailure],
        spent: list[float],
    ) -> None:
        """Ask again without the row at fault if it is known, else batch by batch, then halves."""
        accidents = 0
        while True:
            count = len(piece.numbers)
            if isinstance(error, ACCIDENTS) and count == 1 and accidents < ATTEMPTS:
                accidents += 1
                bounds = [(0, 1)]
                await asyncio.sleep(PAUSE_S * 2**accidents)
            elif isinstance(error, _AWAY):
                bounds = [(0, count)]
                await asyncio.sleep(PAUSE_S)
            else:
                bounds = _bounds_without(piece, error, failed, batch=self._batch)
            again = None
            for part in piece.parts(bounds):
                await self.has_room()
                outcome, model_s = await self.send(part)
                spent.append(model_s)
                if isinstance(outcome, bytes):
                    outputs.append(Output(part.numbers, part.kept, outcome))
                elif len(part.numbers) == count:
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
    instances: int = 0,
) -> ClientCall:
    """Begin to answer a request whose answer is put into no cache: nobody asks for it again.
    ``instances``: how many there are; 0 if that is to be counted.

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
    call.ran(instances, instance_s=0.0)
    dispatch.send_alone(call)
    return call


def _bounds_without(
    piece: Piece, error: RequestError, failed: list[RowFailure], *, batch: int
) -> list[tuple[int, int]]:
    """Return which parts of a piece are to be asked by themselves: those beside the row at fault,
    which is set aside, if it is known; else its batches, and halves of a single one.

    Raises:
        GivenUp: None are.
    """
    count = len(piece.numbers)
    if isinstance(error, GivenUp):
        raise error
    if isinstance(error, _FOR_EVER) and (at := _row_in(error, count)) is not None:
        row, where = at
        failed.append(_failure(piece, row, error, where))
        return [part for part in ((0, row), (row + 1, count)) if part[0] < part[1]]
    if count > batch:
        return [(first, min(first + batch, count)) for first in range(0, count, batch)]
    if count > 1:
        return [(0, count // 2), (count // 2, count)]
    failed.append(_failure(piece, 0, error, error.where))
    return []


def _row_in(error: RequestError, count: int) -> tuple[int, str | None] | None:
    """Return which row of a piece an error names, and the place in it."""
    found = _ROW.fullmatch(error.where or "")
    if found is None or int(found[1]) >= count:
        return None
    return int(found[1]), (f"${found[2]}" if found[2] else None)


def _failure(piece: Piece, row: int, error: RequestError, where: str | None) -> RowFailure:
    return RowFailure(piece.numbers[row], error.code, error.detail, where)
