"""The way of a call from a runner to a gateway, in place of ``calling/awaited.py``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from modelyard.calling.replies import reply_of
from modelyard.client.calls import Request
from modelyard.client.exchange import Lost, Reply, TimedOut
from modelyard.core.errors import GivenUp
from modelyard.core.messages import Form
from modelyard.core.routes import Who
from modelyard.core.trail import CALLED_BY
from modelyard.gateway.heads import Plan
from modelyard.gateway.preparing import Predicting
from tests.simulation.loop import PROCESS, Process
from tests.simulation.schedule import Ask

if TYPE_CHECKING:
    from random import Random

    from tests.simulation.parts import Front
    from tests.simulation.world import World

WAY_S = (0.0002, 0.002)


class Inner:
    """One request of a model, on a connection of its own, as the gateway ``front`` has it.

    Attributes:
        ask: Names it, as far as the checks look at that.
        done: What becomes of it, in the runner.
    """

    def __init__(self, world: World, front: Front, client: Process) -> None:
        self._world = world
        self._front = front
        self._client = client
        self._call: Predicting | None = None
        self._is_closed = False
        self.ask = Ask(at=0.0, id="0", nonce=0, model=0)
        self.done: asyncio.Future[Reply | Lost | TimedOut] = world.loop.create_future()

    def enter(self, request: Request, headers: Mapping[str, str]) -> None:
        """Arrive at the gateway."""
        if self._is_closed:
            return
        sent = {**request.headers, **headers}
        form: Form = "json" if sent["content-type"] == "application/json" else "msgpack"
        who = Who(chain=sent.get(CALLED_BY, ""), trace=sent.get("traceparent", ""))
        given = (sent["x-request-id"].encode(), None)
        self.ask = msgspec.structs.replace(self.ask, id=sent["x-request-id"])
        assert request.body is not None
        self._front.inner[self] = None
        plan = Plan(form, is_bypass=False, coding="", who=who)
        self._call = self._front.door.begin(plan, request.body, self._respond, given)
        if self._call is None or self._call.outcome is not None:
            self._leave()
        else:
            self._front.calls[self] = self._call

    def _respond(self, head: bytes, body: bytes) -> None:
        lines = head.decode("ascii").split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        reply = reply_of(int(lines[0].split(" ")[1]), fields, body)
        code, detail = "ok", ""
        if reply.status != 200:
            problem = msgspec.json.decode(body)
            code, detail = problem["code"], problem["detail"]
        self._front.inner_codes[code, detail] += 1
        self._leave()
        self._tell(reply)

    def _leave(self) -> None:
        self._front.inner.pop(self, None)
        if self._front.calls.pop(self, None) is not None:
            self._front.changed.set()

    def _tell(self, outcome: Reply | Lost) -> None:
        way_s = self._world.chance_of_calls.uniform(*WAY_S)
        self._world.loop.call_later(way_s, self._arrive, outcome, context=self._client.context)

    def _arrive(self, outcome: Reply | Lost) -> None:
        if not self.done.done():
            self.done.set_result(outcome)

    def lose(self) -> None:
        """The gateway is gone, and the connection with it."""
        self._tell(Lost(ConnectionResetError("reset by peer")))

    def close(self) -> None:
        """The runner closes the connection, or is gone."""
        if not self._is_closed:
            self._is_closed = True
            way_s = self._world.chance_of_calls.uniform(*WAY_S)
            context = self._front.process.context
            self._world.loop.call_later(way_s, self._closed, context=context)

    def _closed(self) -> None:
        call = self._call
        if call is not None and call.outcome is None:
            self._front.inner_codes[GivenUp.code, ""] += 1
            call.settle(GivenUp("the client has disconnected"))
            self._leave()


class SimulatedHttp:
    """Sends requests; see ``AwaitedHttp``.

    Args:
        world: Where the gateways are.
        client: The runner's process.
    """

    def __init__(self, world: World, client: Process) -> None:
        self._world = world
        self._client = client
        self.open: dict[Inner, None] = {}

    @property
    def _chance(self) -> Random:
        return self._world.chance_of_calls

    async def send(
        self, request: Request, headers: Mapping[str, str], *, give_up: float
    ) -> Reply | Lost | TimedOut:
        """Send a request to any gateway, as a load balancer does."""
        await asyncio.sleep(self._chance.uniform(*WAY_S))
        up = [front for front in self._world.fronts if front.is_ready]
        if not up:
            return Lost(ConnectionRefusedError("nobody listens"))
        inner = Inner(self._world, up[self._chance.randrange(len(up))], self._client)
        self.open[inner] = None
        inner._front.process.soon(inner.enter, request, headers)
        try:
            async with asyncio.timeout(max(0.0, give_up - virtual_time.monotonic())):
                return await inner.done
        except TimeoutError as error:
            return TimedOut(error)
        finally:
            del self.open[inner]
            inner.close()

    def vanish(self) -> None:
        """End with the runner."""
        for inner in list(self.open):
            inner.close()


class VirtualTime:
    """In place of the module ``time``: the clock of the machine on which a runner runs."""

    @staticmethod
    def monotonic() -> float:
        """Give the reading of its clock."""
        process = PROCESS.get()
        assert process is not None
        assert process.clock is not None
        return process.clock()


virtual_time = VirtualTime()
