"""Files of requests of the OpenAI API: each line is one, and is answered as if it had come alone.

See ``jobs/bulk/run.py``, which reads them, and keeps what is answered.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any, NamedTuple

import msgspec

from modelyard.core.call import Outcome
from modelyard.core.clock import Clock
from modelyard.core.errors import (
    BY_CODE,
    GivenUp,
    InvalidInput,
    Malformed,
    RequestError,
    Unavailable,
    as_request_error,
)
from modelyard.dispatch.dispatch import Ask, ClientCall, Dispatch
from modelyard.gateway.door import Door, Heard, Told
from modelyard.gateway.embeddings import PATH as EMBEDDINGS
from modelyard.gateway.embeddings import EmbeddingsDoor
from modelyard.gateway.openai import KINDS, CompletionsDoor
from modelyard.gateway.openai_errors import error_document
from modelyard.gateway.problems import STATUS
from modelyard.jobs.bulk.asking import (
    ACCIDENTS,
    ATTEMPTS,
    PAUSE_S,
    Answer,
    Answered,
    Output,
    PieceSender,
    start_alone,
)
from modelyard.jobs.bulk.chunks import Lines
from modelyard.jobs.bulk.order import Order, RowFailure
from modelyard.jobs.bulk.pieces import Piece
from modelyard.jobs.bulk.room import Room
from modelyard.jobs.job import WHERE_LOGGED, Leased

log = logging.getLogger(__name__)

ENDPOINTS = (*(path.decode() for path in KINDS), EMBEDDINGS.decode())


class Line(msgspec.Struct):
    """A line of a file."""

    custom_id: str
    url: str
    body: msgspec.Raw
    method: str = "POST"


read_line = msgspec.json.Decoder(Line).decode


class _Heard(NamedTuple):
    """A line that was read."""

    custom_id: str
    ask: Heard


class LineAsker(PieceSender):
    """Answers lines; the outcome of each is the line of its answer.

    Args:
        dispatch, job, room, clock: See ``PieceSender``.
        order: Says which endpoint all of them are for.
    """

    def __init__(
        self, dispatch: Dispatch, order: Order, job: Leased, room: Room, *, clock: Clock
    ) -> None:
        super().__init__(dispatch, job, room, clock=clock)
        self._endpoint = order.endpoint
        path = order.endpoint.encode()
        self._door: Door = EmbeddingsDoor() if path == EMBEDDINGS else CompletionsDoor(KINDS[path])

    def _start(self, piece: Piece, answer: Answer) -> ClientCall:
        heard = self._hear(piece.body[1:-1])
        job, ask = self._job, heard.ask
        request_id = f"{job.uid}-{piece.numbers[0]}"
        return start_alone(
            self._dispatch,
            Ask(job.model, ask.input_data, job.version, ask.timeout_s, "low"),
            partial(self._on_answered, answer, heard, request_id),
            request_id,
            job=job,
            clock=self._clock,
            form=self._door.form,
        )

    async def settle(self, piece: Piece, outcome: Outcome, model_s: float) -> Answered:
        """See ``Asker``."""
        accidents = 0
        while True:
            if isinstance(outcome, bytes):
                outputs = [Output(piece.numbers, (), outcome)] if piece.numbers else []
                return Answered(outputs, [_named(one, None) for one in piece.bad], model_s)
            if isinstance(outcome, GivenUp):
                raise outcome
            if isinstance(outcome, ACCIDENTS) and accidents < ATTEMPTS:
                accidents += 1
            elif not isinstance(outcome, Unavailable):
                row, error = piece.numbers[0], outcome
                failure = RowFailure(row, error.code, error.detail, error.where)
                return Answered([], [_named(failure, piece)], model_s)
            await asyncio.sleep(PAUSE_S * 2**accidents)
            await self.has_room()
            outcome, more_s = await self.send(piece)
            model_s += more_s

    def _hear(self, line: bytes) -> _Heard:
        """Return what a line asks.

        Raises:
            RequestError: It is none that may stand here.
        """
        try:
            found = read_line(line)
        except msgspec.ValidationError as error:
            raise InvalidInput(f"the line is no request: {error}") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Malformed(f"the line is no JSON: {error}") from None
        if found.method != "POST" or found.url != self._endpoint:
            raise InvalidInput(f"each line of this batch is POST {self._endpoint}", where="$.url")
        ask = self._door.read(bytes(found.body))
        catalog = self._dispatch.catalog
        entry = catalog.resolve(self._job.model, self._job.version)
        if ask.model_name != entry.target.name or (
            ask.model_version is not None
            and catalog.resolve(ask.model_name, ask.model_version) is not entry
        ):
            raise InvalidInput(f"all lines ask {entry.target}, as the first one", where="$.model")
        if ask.written is not None:
            raise InvalidInput("an answer in a file has no pieces", where="$.stream")
        self._door.check(entry, ask)
        return _Heard(found.custom_id, ask)

    def _on_answered(
        self,
        answer: Answer,
        heard: _Heard,
        request_id: str,
        call: ClientCall,
    ) -> None:
        outcome = call.outcome
        assert outcome is not None
        self._room.leave()
        model_s = call.instance_s * call.instances if call.instance_s else 0.0
        if isinstance(outcome, bytes):
            told = Told(request_id, "bypass")
            try:
                _, body = self._door.answer(call.entry.target, outcome, heard.ask.echo, told=told)
                outcome = _line(heard.custom_id, request_id, 200, body)
            except Exception as error:
                outcome = as_request_error(error, log, self._job.uid, see=WHERE_LOGGED)
        if not answer.done():
            answer.set_result((outcome, model_s))


def make_asker(
    dispatch: Dispatch, clock: Clock, order: Order, job: Leased, room: Room
) -> tuple[LineAsker, Lines]:
    """Return what answers the lines of a file, and how what comes of them is written."""
    lines = Lines(_joined, partial(_failed_line, job.uid))
    return LineAsker(dispatch, order, job, room, clock=clock), lines


def _joined(answered: Answered) -> bytes:
    return b"".join(output.answer for output in answered.outputs)


def _named(failure: RowFailure, piece: Piece | None) -> RowFailure:
    """Return a failure with the name of its line, if that has one."""
    try:
        custom_id = "" if piece is None else read_line(piece.body[1:-1]).custom_id
    except msgspec.DecodeError:
        custom_id = ""
    return msgspec.structs.replace(failure, custom_id=custom_id)


def _failed_line(uid: str, failure: RowFailure) -> bytes:
    kind = BY_CODE.get(failure.code, RequestError)
    error = kind(failure.detail, where=failure.where)
    request_id = f"{uid}-{failure.row}"
    body = error_document(error, request_id)
    return _line(failure.custom_id, request_id, STATUS[error.code].value, body)


def _line(custom_id: str | None, request_id: str, status: int, body: bytes) -> bytes:
    answer: dict[str, Any] = {
        "id": f"batch_req_{request_id}",
        "custom_id": custom_id,
        "response": {"status_code": status, "request_id": request_id, "body": msgspec.Raw(body)},
        "error": None,
    }
    return msgspec.json.encode(answer) + b"\n"
