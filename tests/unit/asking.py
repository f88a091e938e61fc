"""The asking side under the control of a test: time, the transport, and who asks what."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from modelyard.caches.layered import LayeredCache
from modelyard.caches.memory import MemoryCache
from modelyard.core.batch import Priority
from modelyard.core.call import Call, Outcome
from modelyard.core.errors import GivenUp, RequestError
from modelyard.core.manifest import Limits
from modelyard.core.messages import Announcement, Request, State
from modelyard.core.names import Target
from modelyard.dispatch.catalog import Catalog
from modelyard.dispatch.dispatch import Ask, ClientCall, Dispatch
from modelyard.dispatch.interfaces import CacheUse

IRIS = Target("iris", "1")
CAP_S = 100.0


def announcement(
    target: Target = IRIS,
    *,
    state: State = "ready",
    reason: str = "",
    digest: str = "sha256:0",
    ttl_s: float = 60,
    timeout_s: float = 30,
    max_in_flight: int = 1000,
    max_batch_size: int = 64,
    is_default: bool = False,
) -> Announcement:
    """Give what a pool would announce."""
    return Announcement(
        target=target,
        state=state,
        description="",
        limits=Limits(timeout_s=timeout_s, max_in_flight=max_in_flight),
        cache_ttl_s=ttl_s,
        max_batch_size=max_batch_size,
        runners=1,
        runners_ready=1,
        digest=digest,
        reason=reason,
        is_default=is_default,
    )


def request(*, deadline: float = 0.0) -> Request:
    """Give a request for the iris model."""
    return Request("id", IRIS, memoryview(b"[1]"), deadline)


class Prediction(NamedTuple):
    """``output``: the predictions, in the order of the instances."""

    target: Target
    output: bytes
    cache_use: CacheUse


def ask_for(
    raw: bytes,
    target: Target | None = None,
    *,
    timeout_s: float | None = None,
    priority: Priority = "normal",
) -> Ask:
    """Give what a client asks; of the iris model, in whatever version, unless told otherwise."""
    name, version = (target.name, target.version) if target else ("iris", None)
    return Ask(name, msgspec.Raw(raw), version, timeout_s, priority)


async def predict(
    dispatch: Dispatch, ask: Ask, *, request_id: str = "id", is_bypass: bool = False
) -> Prediction:
    """Answer one request; cancel it to give it up. Raises its error."""
    answered: asyncio.Future[ClientCall] = asyncio.get_running_loop().create_future()

    def on_answered(call: ClientCall) -> None:
        if not answered.done():
            answered.set_result(call)

    call = dispatch.start(ask, on_answered, request_id=request_id, is_bypass=is_bypass)
    try:
        await answered
    except asyncio.CancelledError:
        call.settle(GivenUp("the caller has left"))
        raise
    if isinstance(call.outcome, bytes):
        return Prediction(call.entry.target, call.outcome, call.cache_use)
    assert call.outcome is not None
    raise call.outcome


class Clock:
    """Takes the place of ``time.monotonic``, for our code and for the event loop."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def __call__(self) -> float:
        return self.now


async def settle() -> None:
    """Let all run that can run now."""
    for _ in range(10):
        await asyncio.sleep(0)


@dataclass
class HeldTransport:
    """Keeps what is sent; the test answers."""

    calls: list[Call] = field(default_factory=list)
    is_open: bool = True
    refusal: RequestError | None = None

    def send(self, call: Call) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.calls.append(call)

    @property
    def requests(self) -> list[Request]:
        return [call.request for call in self.calls]


@dataclass
class NotedMetrics:
    """Keeps what it is told."""

    uses: list[CacheUse] = field(default_factory=list)
    expirations: int = 0
    shadows: list[tuple[str, str]] = field(default_factory=list)

    def asked_cache(self, target: Target, use: CacheUse) -> None:
        assert target == IRIS
        self.uses.append(use)

    def expired(self, target: Target) -> None:
        assert target == IRIS
        self.expirations += 1

    def shadowed(self, target: Target, result: str, seconds: float) -> None:
        self.shadows.append((target.version, result))


class Asking:
    """A dispatch with everything it calls."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.catalog = Catalog()
        self.transport = HeldTransport()
        self.metrics = NotedMetrics()
        self.dispatch = Dispatch(
            catalog=self.catalog,
            transport=self.transport,
            cache=LayeredCache(MemoryCache(max_bytes=1_000_000, clock=clock), None),
            metrics=self.metrics,
            timeout_cap_s=CAP_S,
            clock=clock,
        )

    @property
    def sent(self) -> int:
        """How many requests went to the transport."""
        return len(self.transport.calls)

    @property
    def in_flight(self) -> int:
        return self.catalog.resolve("iris", None).in_flight

    async def ask(
        self,
        raw: bytes = b"[1]",
        *,
        timeout_s: float | None = None,
        priority: Priority = "normal",
        is_bypass: bool = False,
    ) -> asyncio.Task[Prediction]:
        """Begin to ask, and come as far as possible without an answer."""
        ask = ask_for(raw, timeout_s=timeout_s, priority=priority)
        task = asyncio.create_task(predict(self.dispatch, ask, is_bypass=is_bypass))
        await settle()
        return task

    def start(self, raw: bytes, *, caller: str) -> ClientCall:
        """Begin to ask for a caller who is known."""
        return self.dispatch.start(ask_for(raw), lambda _: None, "id", caller=caller)

    async def answer(self, number: int, outcome: Outcome) -> None:
        """Answer the request that was sent as number ``number``, and let the answer arrive."""
        self.transport.calls[number].settle(outcome)
        await settle()

    def is_given_up(self, number: int) -> bool:
        """Whether nobody waits for the request that was sent as number ``number``."""
        return isinstance(self.transport.calls[number].outcome, GivenUp)

    async def let_time_pass(self, seconds: float) -> None:
        self.clock.now += seconds
        await settle()
