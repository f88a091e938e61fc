"""Dispatch: cache? → route → transport, and the answer by the deadline.

On the way of a request: ``gateway/predict.py`` calls ``start``; the transport's ``send`` is next.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple, Protocol

from modelyard.core.batch import Priority
from modelyard.core.call import Call
from modelyard.core.deadline import choose_timeout
from modelyard.core.errors import (
    DeadlineExceeded,
    GivenUp,
    Overloaded,
    RequestError,
    Unavailable,
)
from modelyard.core.messages import Form, Request
from modelyard.core.names import Target
from modelyard.dispatch.catalog import Catalog, Entry
from modelyard.dispatch.expiry import Expiry
from modelyard.dispatch.flights import Flight, Flights

log = logging.getLogger(__name__)

CacheUse = Literal["hit", "miss", "coalesced", "bypass"]


class Transport(Protocol):
    """Carries calls to a pool."""

    @property
    def is_open(self) -> bool:
        """Whether requests and answers get through now."""
        ...

    def send(self, call: Call) -> None:
        """Carry a call, and settle it with its outcome. One that is settled by somebody else is
        dropped where that is still possible.
        """
        ...


class Cache(Protocol):
    """Keeps answers."""

    def get(self, key: bytes, then: Callable[[bytes | None], None]) -> None:
        """Call ``then`` with the value of ``key`` if it is there: now, or very soon."""
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
    form: Form = "json"


class Prediction(NamedTuple):
    """``output``: the predictions, in the request's form and the order of the instances."""

    target: Target
    output: bytes
    cache_use: CacheUse


class Inquiry(Call):
    """A call as dispatch sees it: for which target, and how the cache served it."""

    __slots__ = ("_on_answered", "cache_use", "entry", "keys", "ticket")

    def __init__(
        self,
        request: Request,
        entry: Entry,
        on_settled: Callable[[Inquiry], None],
        on_answered: Callable[[Inquiry], None],
    ) -> None:
        super().__init__(request, on_settled)
        self.entry = entry
        self.keys = entry.keys
        self.cache_use: CacheUse = "bypass"
        # None while the cache is asked, and for whoever starts a flight: that is watched instead.
        self.ticket: int | None = None
        self._on_answered = on_answered

    def tell(self) -> None:
        """Tell who asked. Their defects must not reach whoever settled the call."""
        try:
            self._on_answered(self)
        except Exception:
            log.exception("answer_lost", extra={"id": self.request.id})


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
        self._flights: Flights[Inquiry] = Flights()

    def start(self, ask: Ask, on_answered: Callable[[Inquiry], None]) -> Inquiry:
        """Begin to answer one request; ``on_answered`` is told once it is settled, maybe at once.

        Settle what is given to give it up: nobody else who waits for the same answer notices.

        Raises:
            RequestError: It is refused at once; ``on_answered`` is not told.
        """
        entry = self.catalog.resolve(ask.name, ask.version)
        timeout_s = choose_timeout(
            ask.timeout_s, model_s=entry.announcement.limits.timeout_s, cap_s=self._timeout_cap_s
        )
        deadline = time.monotonic() + timeout_s
        request = Request(ask.id, entry.target, ask.input, deadline, ask.priority, ask.form)
        inquiry = Inquiry(request, entry, self._on_settled, on_answered)
        if entry.keys is None or self._cache is None:
            self._check_room(entry)
            inquiry.ticket = self._expiry.watch(inquiry)
            self._send(entry, inquiry)
            return inquiry
        key = entry.keys.key(ask.input, ask.form)
        if ask.is_bypass:
            self._metrics.asked_cache(entry.target, "bypass")
            self._fly(inquiry, key, None)
        else:
            self._cache.get(key, partial(self._on_found, inquiry, key))
        return inquiry

    async def predict(self, ask: Ask) -> Prediction:
        """Answer one request: ``start`` for those who can wait. Cancel it to give it up.

        Raises:
            RequestError: There is no prediction; its class says why.
        """
        answered: asyncio.Future[Inquiry] = asyncio.get_running_loop().create_future()

        def on_answered(inquiry: Inquiry) -> None:
            if not answered.done():
                answered.set_result(inquiry)

        inquiry = self.start(ask, on_answered)
        try:
            await answered
        except asyncio.CancelledError:
            inquiry.settle(GivenUp("the caller has left"))
            raise
        if isinstance(inquiry.outcome, bytes):
            return Prediction(inquiry.entry.target, inquiry.outcome, inquiry.cache_use)
        assert inquiry.outcome is not None
        raise inquiry.outcome

    def _on_found(self, inquiry: Inquiry, key: bytes, known: bytes | None) -> None:
        """Answer with what the cache knew, or ask the model."""
        if inquiry.outcome is not None:
            return  # given up meanwhile
        flight = None
        if known is not None:
            inquiry.cache_use = "hit"
        else:
            flight = self._flights.find(key, inquiry.request.priority)
            inquiry.cache_use = "miss" if flight is None else "coalesced"
        self._metrics.asked_cache(inquiry.entry.target, inquiry.cache_use)
        if known is not None:
            inquiry.settle(known)
            return
        try:
            self._fly(inquiry, key, flight)
        except RequestError as error:
            inquiry.settle(error.with_traceback(None))  # else it would hold this frame, and that it

    def _fly(self, inquiry: Inquiry, key: bytes, flight: Flight[Inquiry] | None) -> None:
        """Join the flight of identical requests, or start one."""
        if flight is not None:
            self._board(flight, inquiry)
            return
        entry = inquiry.entry
        self._check_room(entry)
        landed = partial(self._on_landed, key, inquiry)
        flight = self._flights.start(key, inquiry.request, landed)
        self._board(flight, inquiry)
        # A broker drops what has expired and tells nobody: the flight has to end by itself.
        ticket = self._expiry.watch(flight.execution)
        flight.execution.listen(partial(self._forget, ticket))
        self._send(entry, flight.execution)

    def _forget(self, ticket: int, call: Call) -> None:
        self._expiry.forget(call, ticket)

    def _board(self, flight: Flight[Inquiry], inquiry: Inquiry) -> None:
        is_first = inquiry.request is flight.execution.request  # it has the flight's deadline
        if not is_first and inquiry.ticket is None:
            inquiry.ticket = self._expiry.watch(inquiry)
        flight.join(inquiry)

    def _on_landed(
        self, key: bytes, starter: Inquiry, execution: Call, waiting: list[Inquiry]
    ) -> None:
        """Give a flight's outcome to all who wait for it, and keep it if it is an answer."""
        outcome, entry = execution.outcome, starter.entry
        assert outcome is not None
        if (
            isinstance(outcome, bytes)
            and self._cache is not None
            and _is_of_its_model(starter, execution)
        ):
            self._cache.put(key, outcome, ttl_s=entry.announcement.cache_ttl_s)
        for inquiry in waiting:
            # The flight had the deadline of whoever started it; who joined later may have more.
            has_time_left = (
                inquiry.request is not execution.request
                and inquiry.request.deadline > time.monotonic()
            )
            if not (isinstance(outcome, DeadlineExceeded) and has_time_left):
                inquiry.settle(outcome)
                continue
            try:
                self._fly(inquiry, key, self._flights.find(key, inquiry.request.priority))
            except RequestError as error:
                inquiry.settle(error.with_traceback(None))

    def _on_settled(self, inquiry: Inquiry) -> None:
        """Tidy up, and tell who asked."""
        if inquiry.ticket is not None:
            self._expiry.forget(inquiry, inquiry.ticket)
        if isinstance(inquiry.outcome, DeadlineExceeded):
            self._metrics.expired(inquiry.entry.target)
            if not self._transport.is_open:  # not the model is to blame but the way to it
                inquiry.outcome = Unavailable("the broker was away, or took nothing")
        inquiry.tell()

    def _check_room(self, entry: Entry) -> None:
        """Refuse a request if its target does not serve, or has enough of them."""
        if not entry.is_open:
            raise entry.why_not()
        if entry.in_flight >= entry.announcement.limits.max_in_flight:
            raise Overloaded(
                f"{entry.target} has max_in_flight = {entry.in_flight} requests under way"
            )

    def _send(self, entry: Entry, call: Call) -> None:
        entry.in_flight += 1
        call.listen(entry.left)
        self._transport.send(call)


def _is_of_its_model(inquiry: Inquiry, execution: Call) -> bool:
    """Tell whether the outcome is that of the model folder which the inquiry's key names: meanwhile
    the model may have changed, and while one release replaces another, workers of both answer.
    """
    keys = inquiry.keys
    if keys is None or keys is not inquiry.entry.keys:
        return False
    return execution.digest is None or execution.digest == keys.digest
