"""Clients who submit jobs, and may cancel them."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from modelyard.core.errors import RequestError
from modelyard.gateway.heads import Plan
from modelyard.gateway.orders import Order
from modelyard.gateway.predict_door import PredictDoor
from modelyard.jobs.interfaces import BookAway
from tests.simulation.schedule import Act, JobAsk

if TYPE_CHECKING:
    from tests.simulation.jobs.office import Office
    from tests.simulation.parts import Front
    from tests.simulation.world import World

AGAIN_S = 1.0
MOST_TRIES = 60


class Submitted:
    """A job, as its client knows it.

    Attributes:
        uid: Its name, once it is accepted.
        tries: How often it was submitted.
        accepted_at: When it was accepted.
        is_cancelled: Whether a cancellation was confirmed.
        cancelled_at: When it was confirmed.
        was_cancelling: Whether one was asked for.
    """

    def __init__(self, ask: JobAsk, at: float) -> None:
        self.ask = ask
        self.at = at
        self.uid = ""
        self.codes: list[str] = []
        self.tries = 0
        self.is_cancelled = self.was_cancelling = False
        self.accepted_at = self.cancelled_at = math.inf


class Client:
    """One client, who submits a job until it is accepted. It sends the same key each time.

    Args:
        world: Where it is.
        ask: What it wants.
    """

    def __init__(self, world: World, ask: JobAsk) -> None:
        self._world = world
        self.submitted = Submitted(ask, world.loop.time())
        world.ledger.jobs.append(self.submitted)

    def submit(self) -> None:
        """Submit it to a gateway that is up."""
        world, one = self._world, self.submitted
        if one.uid or one.tries > MOST_TRIES:
            return
        one.tries += 1
        world.loop.call_later(AGAIN_S, self.submit)
        front = self._front()
        if front is not None:
            front.process.soon(self._enter, front, front.office)

    def _front(self) -> Front | None:
        up = [front for front in self._world.fronts if front.is_ready and front.office is not None]
        return up[(self.submitted.ask.gateway + self.submitted.tries) % len(up)] if up else None

    def _enter(self, front: Front, office: Office) -> None:
        ask = self.submitted.ask
        model = self._world.schedule.models[ask.model]
        order = Order(
            idempotency_key=ask.id,
            priority=ask.priority,
            delay_s=ask.delay_s,
            expires_s=ask.expires_s,
            max_attempts=ask.max_attempts,
        )
        plan = Plan("json", is_bypass=False, coding="", door=PredictDoor("json"), order=order)
        body = {
            "model_name": model.name,
            "timeout_s": ask.timeout_s,
            "input_data": [(ask.nonce, ask.act, ask.work_ms)],
        }
        given = (f"{ask.id}{self.submitted.tries}".encode(), None)
        respond = partial(self._on_response, front)
        front.door.begin(plan, msgspec.json.encode(body), respond, given)

    def _on_response(self, front: Front, head: bytes, body: bytes) -> None:
        status, one = head.split(b" ")[1], self.submitted
        if status != b"202":
            code = msgspec.json.decode(body)["code"]
            one.codes.append(code)
            self._world.log(f"client got job {one.ask.id}: {code}")
            front.refusals[code] += 1
            return
        uid = msgspec.json.decode(body)["id"]
        if one.uid and uid != one.uid:
            self._world.checks.problem(f"job {one.ask.id} was kept as {one.uid} and {uid}")
        one.uid, one.accepted_at = uid, self._world.loop.time()
        self._world.log(f"client got job {one.ask.id}: accepted as {uid}")
        if one.ask.cancel_after_s is not None and not one.was_cancelling:
            self._world.loop.call_later(one.ask.cancel_after_s, self._cancel)

    def _cancel(self) -> None:
        front = self._front()
        if front is None:
            self._world.loop.call_later(AGAIN_S, self._cancel)
            return
        self.submitted.was_cancelling = True
        front.process.soon(lambda: front.process.spawn(self._ask_to_cancel(front.office)))

    async def _ask_to_cancel(self, office: Any) -> None:
        try:
            is_cancelled = await office.cancel(self.submitted.uid)
        except (BookAway, RequestError):
            self._world.loop.call_later(AGAIN_S, self._cancel)
            return
        if is_cancelled:
            self.submitted.is_cancelled = True
            self.submitted.cancelled_at = self._world.loop.time()


def right_answer(world: World, ask: JobAsk) -> bytes:
    """Give the result that a job must have."""
    model = world.schedule.models[ask.model]
    return msgspec.json.encode([model.answer(ask.nonce)])


FAILING: frozenset[Act] = frozenset(("raise", "refuse", "exit", "oom", "hang"))
