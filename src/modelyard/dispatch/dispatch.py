"""Dispatch: cache? → route → transport, and the answer by the deadline.

On the way of a request: ``gateway/predict.py`` calls ``predict``; the transport's ``send`` is next.
"""

from __future__ import annotations

import asyncio
import time
from typing import Literal, NamedTuple, Protocol

from modelyard.core.batch import Priority
from modelyard.core.deadline import choose_timeout
from modelyard.core.errors import DeadlineExceeded, Overloaded, RequestError, Unavailable
from modelyard.core.messages import Request
from modelyard.core.names import Target
from modelyard.dispatch.catalog import Catalog, Entry
from modelyard.dispatch.expiry import Expiry
from modelyard.dispatch.flights import Flight, Flights

CacheUse = Literal["hit", "miss", "coalesced", "bypass"]


class Transport(Protocol):
    """Carries requests to a pool."""

    @property
    def is_open(self) -> bool:
        """Whether requests and answers get through now."""
        ...

    def send(self, request: Request) -> asyncio.Future[bytes]:
        """Carry a request; the future gives the JSON of its predictions or a RequestError.

        Cancelling the future drops the request where that is still possible.
        """
        ...


class Cache(Protocol):
    """Keeps answers."""

    async def get(self, key: bytes) -> bytes | None:
        """Give the value of ``key`` if it is there; never raises, never waits long."""
        ...

    def put(self, key: bytes, value: bytes, *, ttl_s: float) -> None:
        """Keep ``value``; returns at once."""
        ...


class DispatchMetrics(Protocol):
    """What dispatch tells of its work."""

    def asked_cache(self, target: Target, use: CacheUse) -> None:
        """A cacheable request was answered from there."""
        ...

    def expired(self, target: Target) -> None:
        """A request's deadline passed."""
        ...


class Ask(NamedTuple):
    """One request as the outside gives it. ``timeout_s``: None for the model's own."""

    id: str
    name: str
    version: str | None
    input: memoryview
    timeout_s: float | None = None
    priority: Priority = "normal"
    is_bypass: bool = False


class Prediction(NamedTuple):
    """``output``: the JSON of the predictions, in the order of the instances."""

    target: Target
    output: bytes
    cache_use: CacheUse


class Dispatch:
    """Answers requests by asking cache and transport."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        transport: Transport,
        cache: Cache | None,
        metrics: DispatchMetrics,
        timeout_cap_s: float,
    ) -> None:
        self.catalog = catalog
        self._transport = transport
        self._cache = cache
        self._metrics = metrics
        self._timeout_cap_s = timeout_cap_s
        self._expiry = Expiry()
        self._flights = Flights()

    async def predict(self, ask: Ask) -> Prediction:
        """Answer one request.

        Cancel the call to give the request up: nobody else who waits for the same answer notices.

        Raises:
            RequestError: There is no prediction; its class says why.
        """
        entry = self.catalog.resolve(ask.name, ask.version)
        announced = entry.announcement
        timeout_s = choose_timeout(
            ask.timeout_s, model_s=announced.limits.timeout_s, cap_s=self._timeout_cap_s
        )
        if entry.keys is None or self._cache is None:
            output = await self._ask(entry, _request(ask, entry, timeout_s))
            return Prediction(entry.target, output, "bypass")
        key = entry.keys.key(ask.input)
        use: CacheUse = "bypass"
        if not ask.is_bypass:
            if (known := await self._cache.get(key)) is not None:
                self._metrics.asked_cache(entry.target, "hit")
                return Prediction(entry.target, known, "hit")
            use = "miss" if self._flights.find(key) is None else "coalesced"
        self._metrics.asked_cache(entry.target, use)
        request = _request(ask, entry, timeout_s)
        output = await self._fly(entry, request, key, is_alone=ask.is_bypass)
        return Prediction(entry.target, output, use)

    async def _ask(self, entry: Entry, request: Request) -> bytes:
        """Send a request that shares its answer with nobody."""
        waiter = self._send(entry, request)
        ticket = self._expiry.watch(waiter, request.deadline)
        try:
            return await waiter
        except DeadlineExceeded as error:
            raise self._too_late(entry, error) from None
        finally:
            self._expiry.forget(waiter, ticket)
            entry.in_flight -= 1

    async def _fly(self, entry: Entry, request: Request, key: bytes, *, is_alone: bool) -> bytes:
        """Join the flight of identical requests, or start it; keep what it brings."""
        while True:
            flight = None if is_alone else self._flights.find(key)
            if flight is None:
                flight = self._take_off(entry, request, key)
            waiter = flight.join()
            ticket = self._expiry.watch(waiter, request.deadline)
            try:
                return await waiter
            except DeadlineExceeded as error:
                # The flight had the deadline of whoever started it; this one may have time left.
                if request.deadline > time.monotonic():
                    continue
                raise self._too_late(entry, error) from None
            finally:
                self._expiry.forget(waiter, ticket)
                flight.leave(waiter)

    def _too_late(self, entry: Entry, error: DeadlineExceeded) -> RequestError:
        """Say who is to blame for a missed deadline: the model, or the way to it."""
        self._metrics.expired(entry.target)
        if self._transport.is_open:
            return error
        return Unavailable("the broker was away, or took nothing, until the deadline")

    def _take_off(self, entry: Entry, request: Request, key: bytes) -> Flight:
        execution = self._send(entry, request)
        cache, ttl_s = self._cache, entry.announcement.cache_ttl_s

        def landed(execution: asyncio.Future[bytes]) -> None:
            entry.in_flight -= 1
            if not execution.cancelled() and execution.exception() is None and cache is not None:
                cache.put(key, execution.result(), ttl_s=ttl_s)

        return self._flights.start(key, execution, landed)

    def _send(self, entry: Entry, request: Request) -> asyncio.Future[bytes]:
        """Hand a request to the transport, if the target takes one more now."""
        if not entry.is_open:
            raise entry.why_not()
        if entry.in_flight >= entry.announcement.limits.max_in_flight:
            raise Overloaded(
                f"{entry.target} has max_in_flight = {entry.in_flight} requests under way"
            )
        sent = self._transport.send(request)
        entry.in_flight += 1
        return sent


def _request(ask: Ask, entry: Entry, timeout_s: float) -> Request:
    deadline = time.monotonic() + timeout_s
    return Request(ask.id, entry.target, ask.input, deadline, ask.priority)
