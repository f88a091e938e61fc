"""A client's way in and out: a request as ``PredictEndpoint`` gets it, and what it responds."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from modelyard.core.errors import Failure, from_failure
from modelyard.core.names import Target
from modelyard.gateway.cors import Cors
from modelyard.gateway.formats import JsonLines
from modelyard.gateway.heads import Plan
from modelyard.gateway.known import Given
from modelyard.gateway.predict import PredictEndpoint
from modelyard.gateway.predict_door import PredictDoor
from modelyard.gateway.preparing import Predicting
from modelyard.gateway.submitting import Submitting
from modelyard.gateway.types import Respond
from tests.simulation.ledger import Asked
from tests.simulation.schedule import Ask, Model, encode_input

if TYPE_CHECKING:
    from tests.simulation.parts import Front
    from tests.simulation.streams.reader import Reader

MAX_BODY_BYTES = 8 << 20
MAX_BODIES_BYTES = 256 << 20


class Answered(msgspec.Struct):
    """The body of an answer that is a prediction."""

    model_name: str
    model_version: str
    prediction: msgspec.Raw


class Problem(msgspec.Struct):
    """The part of a problem document that is looked at."""

    status: int
    code: str
    detail: str


class Door:
    """The endpoint of one gateway.

    Args:
        front: The gateway.
    """

    def __init__(self, front: Front) -> None:
        self._front = front
        self._endpoint = PredictEndpoint(
            dispatch=front.dispatch,
            metrics=front.metrics,
            max_body_bytes=MAX_BODY_BYTES,
            max_bodies_bytes=MAX_BODIES_BYTES,
            is_access_logged=False,
            clock=front.clock,
            cors=Cors(""),
        )

    def take_jobs(self, submitting: Submitting) -> None:
        """Make jobs of requests from now on."""
        self._endpoint.jobs = submitting

    def begin(self, plan: Plan, body: bytes, respond: Respond, given: Given) -> Predicting | None:
        """Hand over a request that is not among those of the ledger."""
        return self._endpoint.begin(plan, body, respond, given=given)

    def enter(self, asked: Asked, model: Model, reader: Reader | None = None) -> Predicting | None:
        """Hand a request over; gives what is then in progress. ``reader``: of its pieces."""
        ask = asked.ask
        plan = Plan(form=ask.form, is_bypass=ask.is_bypass, coding="")
        if reader is not None:
            plan = plan._replace(door=PredictDoor("json", written=JsonLines()), may_stream=True)
        return self._endpoint.begin(
            plan,
            _body(ask, model),
            partial(self.respond, asked) if reader is None else reader.writer,
            given=(ask.id.encode(), None),
        )

    def respond(self, asked: Asked, head: bytes, body: bytes) -> None:
        """Read a response as a client does."""
        lines = head.decode("ascii").split("\r\n")
        status = int(lines[0].split(" ")[1])
        headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        now = self._front.world.loop.time()
        if headers["x-request-id"] != asked.ask.id or int(headers["content-length"]) != len(body):
            self._front.world.checks.problem(f"{asked.ask.id} got the head {headers}")
        if status == 200:
            codec = msgspec.json if asked.ask.form == "json" else msgspec.msgpack
            answer = codec.decode(body, type=Answered)
            asked.note(bytes(answer.prediction), now)
            asked.target = Target(answer.model_name, answer.model_version)
            asked.cache_use = headers["x-cache"]  # type: ignore[assignment]
        else:
            problem = msgspec.json.decode(body, type=Problem)
            if problem.status != status or ("retry-after" in headers) != (status == 503):
                self._front.world.checks.problem(f"{asked.ask.id} got {lines[0]} and {problem}")
            asked.note(from_failure(Failure(problem.code, problem.detail)), now)
        self._front.answered(asked)


def _body(ask: Ask, model: Model) -> bytes:
    fields = {
        "model_name": model.name,
        "model_version": model.version,
        "timeout_s": ask.timeout_s,
        "priority": ask.priority,
        "input_data": msgspec.Raw(encode_input(ask, model)),
    }
    return msgspec.json.encode(fields) if ask.form == "json" else msgspec.msgpack.encode(fields)
