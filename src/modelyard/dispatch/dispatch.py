"""Dispatch: cache? → route → transport, and the answer by the deadline.

On the way of a request: ``gateway/predict.py`` calls ``start``; the transport's ``send`` is next.
The way back is drawn in ``core/call.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Literal, Protocol

import msgspec

from modelyard.core.batch import Priority
from modelyard.core.call import Call
from modelyard.core.clock import Clock
from modelyard.core.deadline import choose_timeout
from modelyard.core.errors import DeadlineExceeded, Overloaded, RequestError, Unavailable
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
        """Carry a call, and settle it with its outcome. One that somebody else settles is dropped
        where that is still possible.
        """
        ...


class Cache(Protocol):
    """Keeps answers."""

    def get(self, key: bytes, then: Callable[[bytes | None], None]) -> None:
        """Call ``then`` with the value of ``key`` or None: now, or very soon."""
        ...

    def put(self, key: bytes, value: bytes, *, ttl_s: float) -> None:
        """Keep ``value``; returns at once."""
        ...


class DispatchMetrics(Protocol):
    """What dispatch reports."""

    def asked_cache(self, target: Target, use: CacheUse) -> None:
        """A cacheable request was looked up in the cache."""
        ...

    def expired(self, target: Target) -> None:
        """A request's deadline passed."""
        ...


class Ask(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """What a client asks, before anything is looked up: the body of ``POST /predict``.

    Other protocols fill in the same fields. ``input_data`` stays raw until the runner reads it;
    ``timeout_s`` is None for the model's own.
    """

    model_name: str
    input_data: msgspec.Raw
    model_version: str | None = None
    timeout_s: float | None = None
    priority: Priority = "normal"


class ClientCall(Call):
    """The call of one client: for which target, and how the cache served it.

    Attributes:
        ticket: Of the expiry that watches it. None for the client that started a flight, whose
            shared call is watched instead, and while the cache is asked.
    """

    __slots__ = ("cache_use", "entry", "keys", "ticket")

    def __init__(
        self, request: Request, entry: Entry, on_answered: Callable[[ClientCall], None]
    ) -> None:
        super().__init__(request, on_answered)
        self.entry = entry
        self.keys = entry.keys
        self.cache_use: CacheUse = "bypass"
        self.ticket: int | None = None


class Dispatch:
    """Answers requests from cache and transport.

    Args:
        catalog: Of all targets.
        transport: Where requests are sent.
        cache: Of answers; None for none.
        metrics: Told what happens.
        timeout_cap_s: No request may take longer.
        clock: Deadlines are readings of it.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        transport: Transport,
        cache: Cache | None,
        metrics: DispatchMetrics,
        timeout_cap_s: float,
        clock: Clock,
    ) -> None:
        self.catalog = catalog
        self._transport = transport
        self._cache = cache
        self._metrics = metrics
        self._timeout_cap_s = timeout_cap_s
        self._clock = clock
        self._expiry = Expiry(clock)
        self._flights: Flights[ClientCall] = Flights()

    def start(
        self,
        ask: Ask,
        on_answered: Callable[[ClientCall], None],
        *,
        request_id: str,
        form: Form = "json",
        is_bypass: bool = False,
    ) -> ClientCall:
        """Begin to answer one request; ``on_answered`` is called once it is settled, maybe at once.

        Settle the call to give it up: others who wait for the same answer do not notice.

        Args:
            ask: What is asked.
            on_answered: Called with the settled call.
            request_id: For logs, and for the answer.
            form: Of the input and of the answer.
            is_bypass: Whether the answer must not come from the cache.

        Raises:
            RequestError: There is no such model, or the time-out is none; ``on_answered`` is not
                called. Whatever goes wrong later settles the call instead.
        """
        entry = self.catalog.resolve(ask.model_name, ask.model_version)
        timeout_s = choose_timeout(
            ask.timeout_s, model_s=entry.announcement.limits.timeout_s, cap_s=self._timeout_cap_s
        )
        raw = memoryview(ask.input_data)
        deadline = self._clock() + timeout_s
        request = Request(request_id, entry.target, raw, deadline, ask.priority, form)
        call = ClientCall(request, entry, on_answered)
        call.watch(self._on_settled)
        try:
            if entry.keys is None or self._cache is None:
                self._check_room(entry)
                call.ticket = self._expiry.watch(call)
                self._send(entry, call)
                return call
            key = entry.keys.key(raw, form)
            if is_bypass:
                self._metrics.asked_cache(entry.target, "bypass")
                self._fly(call, key, None)
            else:
                self._cache.get(key, partial(self._on_found, call, key))
        except Exception as error:
            _fail(call, error)
        return call

    def _on_found(self, call: ClientCall, key: bytes, known: bytes | None) -> None:
        """Answer with what the cache knew, or ask the model."""
        if call.outcome is not None:
            return  # given up meanwhile
        flight = None
        if known is not None:
            call.cache_use = "hit"
        else:
            flight = self._flights.find(key, call.request.priority)
            call.cache_use = "miss" if flight is None else "coalesced"
        self._metrics.asked_cache(call.entry.target, call.cache_use)
        if known is not None:
            call.settle(known)
            return
        try:
            self._fly(call, key, flight)
        except Exception as error:
            _fail(call, error)

    def _fly(self, call: ClientCall, key: bytes, flight: Flight[ClientCall] | None) -> None:
        """Join the flight of identical requests, or start one."""
        if flight is not None:
            self._board(flight, call)
            return
        entry = call.entry
        self._check_room(entry)
        landed = partial(self._on_landed, key, call)
        flight = self._flights.start(key, call.request, landed)
        self._board(flight, call)
        # A broker drops what has expired and tells nobody: the flight has to end by itself.
        ticket = self._expiry.watch(flight.shared)
        flight.shared.watch(partial(self._forget, ticket))
        self._send(entry, flight.shared)

    def _forget(self, ticket: int, call: Call) -> None:
        self._expiry.forget(call, ticket)

    def _board(self, flight: Flight[ClientCall], call: ClientCall) -> None:
        is_starter = call.request is flight.shared.request  # the flight has its deadline
        if not is_starter and call.ticket is None:
            call.ticket = self._expiry.watch(call)
        flight.join(call)

    def _on_landed(
        self, key: bytes, starter: ClientCall, shared: Call, waiting: list[ClientCall]
    ) -> None:
        """Give a flight's outcome to all who wait for it, and keep it if it is an answer."""
        outcome, entry = shared.outcome, starter.entry
        assert outcome is not None
        if (
            isinstance(outcome, bytes)
            and self._cache is not None
            and _is_of_its_model(starter, shared)
        ):
            self._cache.put(key, outcome, ttl_s=entry.announcement.cache_ttl_s)
        for call in waiting:
            # The flight had the deadline of its starter; who joined later may have more time.
            has_time_left = (
                call.request is not shared.request and call.request.deadline > self._clock()
            )
            if not (isinstance(outcome, DeadlineExceeded) and has_time_left):
                call.settle(outcome)
                continue
            try:
                self._fly(call, key, self._flights.find(key, call.request.priority))
            except Exception as error:
                _fail(call, error)

    def _on_settled(self, call: ClientCall) -> None:
        """Tidy up before the client is told."""
        if call.ticket is not None:
            self._expiry.forget(call, call.ticket)
        if isinstance(call.outcome, DeadlineExceeded):
            self._metrics.expired(call.entry.target)
            if not self._transport.is_open:  # the way to the model is to blame, not the model
                call.outcome = Unavailable("the broker was away, or took no messages")

    def _check_room(self, entry: Entry) -> None:
        """Refuse a request if its target does not serve, or has enough of them."""
        if not entry.is_open:
            raise entry.why_not()
        if entry.in_flight >= entry.announcement.limits.max_in_flight:
            entry.refused += 1
            raise Overloaded(
                f"{entry.target} has max_in_flight = {entry.in_flight} requests in progress"
            )

    def _send(self, entry: Entry, call: Call) -> None:
        entry.in_flight += 1
        call.watch(entry.left)
        try:
            self._transport.send(call)
        except Exception as error:  # after this it may be registered anywhere: settle, never raise
            _fail(call, error)


def _fail(call: Call, error: Exception) -> None:
    """Settle a call that cannot be carried. What is no RequestError is a defect of ours."""
    if not isinstance(error, RequestError):
        log.error("unexpected_error", exc_info=error, extra={"id": call.request.id})
        error = RequestError("something went wrong here; the logs have more under the request id")
    call.settle(error.with_traceback(None))  # else it would hold this frame, and that the body


def _is_of_its_model(call: ClientCall, shared: Call) -> bool:
    """Tell whether the outcome is that of the model folder which the call's key names: meanwhile
    the model may have changed, and while one release replaces another, workers of both answer.
    """
    keys = call.keys
    if keys is None or keys is not call.entry.keys:
        return False
    return shared.digest is None or shared.digest == keys.digest
