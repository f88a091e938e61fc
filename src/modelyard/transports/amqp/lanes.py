"""Lanes: the requests that wait for one queue, and how they are bundled into messages.

A bundle leaves when as many requests wait as are in flight, when it is full, or when its first
request has waited long enough. So a lone request leaves at once, a busy target shares the cost of a
message among more requests, and requests that cannot run yet wait in the broker. With 64 clients
two bundles of 32 alternate. That gave a quarter more answers than three bundles at a time.

Path of a request: ``AmqpTransport.send`` calls ``enter``. ``_flush`` bundles the waiting requests
and passes the bundle back to ``AmqpTransport._depart``, which publishes it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from itertools import count
from typing import NamedTuple

from modelyard.core.batch import Priority
from modelyard.core.call import Call
from modelyard.core.clock import Clock
from modelyard.core.names import Target
from modelyard.transports.amqp.envelope import Item
from modelyard.transports.amqp.topology import queue_name

FILL_S = 0.005  # a request waits at most this long for its bundle to fill,
SPARE_S = 0.001  # and this long while a runner may be free for it
LARGEST_BUNDLE_BYTES = 1 << 20


class Capacity(NamedTuple):
    """Capacity of a target's workers.

    ``batch_size``: most instances in a bundle, so that no bundle holds requests that another worker
    could be running. ``runners``: number of runners that are up.
    """

    batch_size: int
    runners: int


class Pending:
    """A call without an outcome yet."""

    __slots__ = ("bundle", "call", "instances", "is_second_try", "key", "lane")

    def __init__(self, key: int, call: Call, lane: Lane) -> None:
        self.key = key
        self.call = call
        self.instances = call.instances
        self.lane = lane
        self.bundle: Bundle | None = None
        self.is_second_try = False

    def to_item(self, wall_offset: float) -> Item:
        """Return the Item to publish. ``wall_offset`` is added to the deadline to get Unix time."""
        request = self.call.request
        deadline = request.deadline + wall_offset
        return Item(self.key, request.id, request.input, deadline, request.form, request.trail)


class Bundle:
    """The requests of one message, kept while any of them is unanswered."""

    __slots__ = ("departed", "id", "lane", "requests")

    def __init__(
        self, bundle_id: str, lane: Lane, requests: list[Pending], *, departed: float
    ) -> None:
        self.id = bundle_id
        self.departed = departed
        self.lane = lane
        self.requests = {pending.key: pending for pending in requests}


class Lane:
    """The requests of one target and priority.

    Args:
        target: The target.
        priority: The priority.
        capacity: Returns the workers' current capacity. A request with more instances than a
            bundle may hold is a bundle by itself.
        depart: Sends a bundle.
        clock: For the moment at which a bundle leaves.
        first_key: Of its requests and bundles. What the workers of one target see must not tell
            them those of another: with a key they could answer.

    Attributes:
        keys: Gives them.
        asked: How many instances have come so far, in how many ``requests``.
    """

    def __init__(
        self,
        target: Target,
        priority: Priority,
        *,
        capacity: Callable[[Target], Capacity],
        depart: Callable[[Bundle], None],
        clock: Clock,
        first_key: int,
    ) -> None:
        self.target = target
        self.queue = queue_name(target, priority)
        self._capacity = capacity
        self._depart = depart
        self._clock = clock
        self.keys = count(first_key)
        self._loop = asyncio.get_running_loop()
        self._waiting: OrderedDict[int, Pending] = OrderedDict()  # by key, the next one first
        self._instances = 0  # of all that wait
        self.asked = self.requests = 0
        self._under_way = 0  # bundles
        self._unanswered = 0  # requests in them
        self._flush_soon: asyncio.Handle | None = None
        self._flush_later: asyncio.TimerHandle | None = None
        self._is_open = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits, and nothing is in flight."""
        return not (self._waiting or self._unanswered)

    def enter(self, pending: Pending) -> None:
        """Let a request that is new wait for the next bundle."""
        capacity = self._capacity(self.target)
        self.asked += min(pending.instances, capacity.batch_size)
        self.requests += 1
        self._wait(pending, capacity)

    def weigh(self, pending: Pending) -> int:
        """Return the number of instances of a request, at most the size of a batch."""
        return min(pending.instances, self._capacity(self.target).batch_size)

    def add(self, pending: Pending) -> None:
        """Queue a request for the next bundle."""
        self._wait(pending, self._capacity(self.target))

    def _wait(self, pending: Pending, capacity: Capacity) -> None:
        self._waiting[pending.key] = pending
        self._instances += pending.instances
        self._schedule(capacity)

    def remove(self, pending: Pending) -> None:
        """Remove a request that leaves or is settled."""
        del self._waiting[pending.key]
        self._instances -= pending.instances

    def release(self, bundle: Bundle) -> None:
        """Note that a request of a bundle is no longer in flight, so another one may leave."""
        self._unanswered -= 1
        if not bundle.requests:
            self._under_way -= 1
        self._schedule()

    def open(self) -> None:
        """Start sending bundles."""
        self._is_open = True
        self._schedule()

    def close(self, unanswered: list[Pending]) -> None:
        """Stop sending until ``open``. Requests that were sent, oldest first, wait again."""
        self._is_open = False
        self._under_way = self._unanswered = 0
        for pending in reversed(unanswered):
            self._waiting[pending.key] = pending
            self._waiting.move_to_end(pending.key, last=False)
            self._instances += pending.instances
        self._cancel_flush()

    def _schedule(self, capacity: Capacity | None = None) -> None:
        if not self._waiting or not self._is_open or self._flush_soon is not None:
            return
        if len(self._waiting) >= self._unanswered:
            self._flush_soon = self._loop.call_soon(self._flush)
            return
        capacity = capacity or self._capacity(self.target)
        if self._instances >= capacity.batch_size:
            self._flush_soon = self._loop.call_soon(self._flush)
        elif self._flush_later is None:
            # An estimate: bundles of other gateways and of the other priority are not known here.
            is_spare = self._under_way < capacity.runners
            self._flush_later = self._loop.call_later(SPARE_S if is_spare else FILL_S, self._flush)

    def _cancel_flush(self) -> None:
        """Cancel the timer and the call at the end of the turn; both may be pending."""
        for handle in (self._flush_soon, self._flush_later):
            if handle is not None:
                handle.cancel()
        self._flush_soon = self._flush_later = None

    def _flush(self) -> None:
        self._cancel_flush()
        room, used = self._capacity(self.target).batch_size, 0
        chosen: list[Pending] = []
        while self._waiting and used < LARGEST_BUNDLE_BYTES:
            pending = next(iter(self._waiting.values()))
            if pending.instances > room and chosen:
                break
            self.remove(pending)
            chosen.append(pending)
            room -= pending.instances
            used += len(pending.call.request.input)
        if chosen:
            bundle = Bundle(str(next(self.keys)), self, chosen, departed=self._clock())
            for pending in chosen:
                pending.bundle = bundle
            self._under_way += 1
            self._unanswered += len(chosen)
            self._depart(bundle)
        self._schedule()
