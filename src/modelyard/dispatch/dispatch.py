"""Dispatch: catalog → cache → single flight → transport, and an answer by the deadline.

Path of a request: ``gateway/predict.py`` calls ``start``, which looks the answer up in the cache
(``caches/layered.py``); ``_on_found`` answers from it, or sends the request by the transport's
``send``. The way back is described in ``core/call.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import msgspec

from modelyard.core.batch import Priority
from modelyard.core.call import Call
from modelyard.core.clock import Clock
from modelyard.core.deadline import choose_timeout
from modelyard.core.errors import DeadlineExceeded, Overloaded, Unavailable, as_request_error
from modelyard.core.fingerprint import NOBODY
from modelyard.core.messages import Form, Request
from modelyard.core.routes import UNKNOWN, Who
from modelyard.core.trail import Trail
from modelyard.dispatch.catalog import Catalog
from modelyard.dispatch.entry import Entry
from modelyard.dispatch.expiry import Expiry
from modelyard.dispatch.flights import Flight, Flights
from modelyard.dispatch.interfaces import Cache, CacheUse, DispatchMetrics, Transport
from modelyard.dispatch.shadows import Shadows
from modelyard.dispatch.turns import Turns

log = logging.getLogger(__name__)


class Ask(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """What a client asks for, before anything is looked up: the body of ``POST /predict``.

    Other protocols fill in the same fields. ``input_data`` stays raw until the runner decodes it.
    ``timeout_s`` is None for the model's own timeout.
    """

    model_name: str
    input_data: msgspec.Raw
    model_version: str | None = None
    timeout_s: float | None = None
    priority: Priority = "normal"


class ClientCall(Call):
    """The call of one client: for which target, and how the cache served it.

    Attributes:
        ticket: Ticket of ``Expiry.watch``. None during the cache look-up, and for the client that
            started a flight: there the shared call is watched instead.
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

    def follow(self, trail: Trail) -> None:
        """Send a trail along."""
        self.request = msgspec.structs.replace(self.request, trail=trail)

    @property
    def weight(self) -> float:
        """What it counts for, as the model says."""
        return self.entry.announcement.limits.weight


class Dispatch:
    """Answers requests from the cache or through the transport.

    Args:
        catalog: All targets.
        transport: Where requests are sent.
        cache: Cache of answers; None for none.
        metrics: Receives counts.
        timeout_cap_s: Upper bound on the timeout of a request.
        clock: Deadlines are readings of it.

    Attributes:
        expiry: Watches the deadlines of calls.
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
        self.timeout_cap_s = timeout_cap_s
        self._clock = clock
        self.expiry = Expiry(clock)
        self._flights: Flights[ClientCall] = Flights()
        self._turns = Turns(self._send_in_turn)
        self._shadows = Shadows(catalog, metrics, send=self._send_watched, clock=clock)

    def start(
        self,
        ask: Ask,
        on_answered: Callable[[ClientCall], None],
        request_id: str,
        *,
        form: Form = "json",
        is_bypass: bool = False,
        tenant: bytes = NOBODY,
        caller: str = "",
        who: Who = UNKNOWN,
        make: Callable[..., ClientCall] = ClientCall,
    ) -> ClientCall:
        """Begin to answer one request; ``on_answered`` is called when it settles, maybe at once.

        To cancel the request, settle the call. Other clients that share its answer are not
        affected.

        Args:
            ask: The request.
            on_answered: Called with the settled call.
            request_id: Id for logs and for the answer.
            form: Form of the input and the answer.
            is_bypass: Whether to skip the cache look-up.
            tenant: Whose request it is (``core/fingerprint.py``): nobody else gets its answer.
            caller: Who takes turns with others (``turns.py``); empty if that is not known.
            who: What the request says of who asks.
            make: Makes the call.

        Raises:
            RequestError: There is no such model, the timeout is invalid, or models call each other
                without end; ``on_answered`` is not called. Later errors settle the call instead.
        """
        entry = self.catalog.resolve(ask.model_name, ask.model_version, who)
        timeout_s = choose_timeout(
            ask.timeout_s, model_s=entry.announcement.limits.timeout_s, cap_s=self.timeout_cap_s
        )
        raw = memoryview(ask.input_data)
        deadline = self._clock() + timeout_s
        request = Request(request_id, entry.target, raw, deadline, ask.priority, form, caller)
        call = make(request, entry, on_answered)
        if entry.is_special or who.since:
            self._follow(entry, ask, call, who)
        call.watch(self._on_settled)
        try:
            if call.keys is None or self._cache is None:
                self._check_room(entry)
                call.ticket = self.expiry.watch(call)
                self._send(entry, call)
                return call
            key = call.keys.key(raw, form, tenant)
            if is_bypass:
                self._metrics.asked_cache(entry.target, "bypass")
                self._fly(call, key, None)
            else:
                self._cache.get(key, partial(self._on_found, call, key))
        except Exception as error:
            _fail(call, error)
        return call

    def send_alone(self, call: ClientCall) -> None:
        """Send a call that shares nothing with others; settles it if that fails."""
        call.watch(self._on_settled)
        try:
            self._check_room(call.entry)
            call.ticket = self.expiry.watch(call)
            self._send(call.entry, call)
        except Exception as error:
            _fail(call, error)

    def _follow(self, entry: Entry, ask: Ask, call: ClientCall, who: Who) -> None:
        """Do what some targets need: a trail for calls or traces, a guard, copies for a shadow.

        Raises:
            CallsTooDeep: See ``core/trail.py``.
        """
        if (trail := entry.trail_of(who)) is not None:
            call.follow(trail)
        if entry.guarded is not None:
            entry.guarded.watch(ask, call, self._clock)
        if entry.shadow is not None and entry.has_room and not call.is_special:
            self._shadows.follow(entry.shadow, call, self.catalog.router.chance)

    def _on_found(self, call: ClientCall, key: bytes, known: bytes | None) -> None:
        """Answer from the cache, or ask the model."""
        if call.outcome is not None:
            return  # cancelled in the meantime
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
        # A broker drops expired messages without notice, so the flight needs a deadline of its own.
        self._send_watched(entry, flight.shared)

    def _forget(self, ticket: int, call: Call) -> None:
        self.expiry.forget(call, ticket)

    def _board(self, flight: Flight[ClientCall], call: ClientCall) -> None:
        is_starter = call.request is flight.shared.request  # the flight has its deadline
        if not is_starter and call.ticket is None:
            call.ticket = self.expiry.watch(call)
        flight.join(call)

    def _on_landed(
        self, key: bytes, starter: ClientCall, shared: Call, waiting: list[ClientCall]
    ) -> None:
        """Pass a flight's outcome to all calls that wait for it; cache it if it is an answer."""
        outcome, entry = shared.outcome, starter.entry
        assert outcome is not None
        starter.ran(shared.instances, instance_s=shared.instance_s)
        if (
            isinstance(outcome, bytes)
            and self._cache is not None
            and entry.is_model_of(starter.keys, shared.digest)
        ):
            self._cache.put(key, outcome, ttl_s=entry.announcement.cache_ttl_s)
        for call in waiting:
            # The flight had the starter's deadline; clients that joined later may have more time.
            has_time_left = call.request is not shared.request and call.deadline > self._clock()
            if not (isinstance(outcome, DeadlineExceeded) and has_time_left):
                call.settle(outcome)
                continue
            try:
                self._fly(call, key, self._flights.find(key, call.request.priority))
            except Exception as error:
                _fail(call, error)

    def _on_settled(self, call: ClientCall) -> None:
        """Stop watching the deadline before the client is notified, and complete the error."""
        if call.ticket is not None:
            self.expiry.forget(call, call.ticket)
        outcome = call.outcome
        if isinstance(outcome, bytes):
            return
        if isinstance(outcome, Overloaded):
            outcome.retry_after_s = call.entry.wait_s(self._clock())
        elif isinstance(outcome, DeadlineExceeded):
            self._metrics.expired(call.entry.target)
            if not self._transport.is_open:  # the broker is to blame, not the model
                call.outcome = Unavailable("the broker was away, or took no messages")

    def _check_room(self, entry: Entry) -> None:
        """Refuse a request if its target does not serve, or is at ``max_in_flight``."""
        if not entry.is_open:
            raise entry.why_not()
        if entry.in_flight >= entry.announcement.limits.max_in_flight:
            entry.refused += 1
            raise Overloaded(
                f"{entry.target} has max_in_flight = {entry.in_flight} requests in flight"
            )

    def _send(self, entry: Entry, call: Call) -> None:
        entry.in_flight += 1
        call.watch(entry.left)
        try:
            if call.request.caller and entry.in_flight > entry.one_batch:  # there is a queue
                self._turns.enter(entry, call)
            else:
                self._transport.send(call)
        except Exception as error:  # others may watch it by now: settle, never raise
            _fail(call, error)

    def _send_watched(self, entry: Entry, call: Call) -> None:
        """Send a call that is no client's, and settle it at its deadline."""
        ticket = self.expiry.watch(call)
        call.watch(partial(self._forget, ticket))
        self._send(entry, call)

    def _send_in_turn(self, call: Call) -> None:
        try:
            self._transport.send(call)
        except Exception as error:
            _fail(call, error)


def _fail(call: Call, error: Exception) -> None:
    """Settle a call that cannot be sent."""
    call.settle(as_request_error(error, log, call.request.id))
