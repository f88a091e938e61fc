"""Lanes: what waits for one queue, and how much of it leaves in one message.

At once while fewer than ``WINDOW`` bundles are under way; otherwise when a bundle is full, or when
the next of those under way is answered, or after ``FILL_S``. So the cost of a message is shared by
more requests the busier the target is, and what cannot run yet waits in the broker.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from itertools import count

from modelyard.core.batch import Priority, count_instances
from modelyard.core.call import Call
from modelyard.core.names import Target
from modelyard.transports.amqp.topology import queue_name

WINDOW = 3  # bundles under way for one lane while it flushes at once
FILL_S = 0.005  # over the window a request waits at most this long for its bundle to fill
LARGEST_BUNDLE_BYTES = 1 << 20

_bundle_ids = count(1)


class Pending:
    """A call that is not answered yet."""

    __slots__ = ("bundle", "call", "instances", "is_second_try", "key", "lane")

    def __init__(self, key: int, call: Call, lane: Lane) -> None:
        self.key = key
        self.call = call
        self.instances = count_instances(call.request.input, is_json=call.request.form == "json")
        self.lane = lane
        self.bundle: Bundle | None = None
        self.is_second_try = False


class Bundle:
    """One message's requests, as long as one of them is unanswered."""

    __slots__ = ("departed", "id", "lane", "requests")

    def __init__(self, lane: Lane, requests: list[Pending]) -> None:
        self.id = str(next(_bundle_ids))
        self.departed = time.monotonic()
        self.lane = lane
        self.requests = {pending.key: pending for pending in requests}


class Lane:
    """The requests of one target and priority.

    Args:
        target: Whose they are.
        priority: Theirs.
        size: Gives how many instances a bundle may hold; one larger request is a bundle too.
        depart: Sends a bundle.
    """

    def __init__(
        self,
        target: Target,
        priority: Priority,
        *,
        size: Callable[[Target], int],
        depart: Callable[[Bundle], None],
    ) -> None:
        self.target = target
        self.queue = queue_name(target, priority)
        self._size = size
        self._depart = depart
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Pending] = deque()
        self._instances = 0  # of all that wait
        self._under_way = 0
        self._flush_soon: asyncio.Handle | None = None
        self._flush_later: asyncio.TimerHandle | None = None
        self._is_open = False

    def add(self, pending: Pending) -> None:
        """Let a request wait for the next bundle."""
        while self._waiting and self._waiting[0].call.outcome is not None:  # while none may leave
            self._instances -= self._waiting.popleft().instances
        self._waiting.append(pending)
        self._instances += pending.instances
        self._schedule()

    def arrived(self, bundle: Bundle) -> None:
        """Note that all of a bundle is answered: there is room for another."""
        self._under_way -= 1
        self._schedule()

    def open(self) -> None:
        """Let bundles leave."""
        self._is_open = True
        self._schedule()

    def close(self, unanswered: list[Pending]) -> None:
        """Let nothing leave until ``open``; what was sent, the oldest first, waits again."""
        self._is_open = False
        self._under_way = 0
        self._waiting.extendleft(reversed(unanswered))
        self._instances += sum(pending.instances for pending in unanswered)
        for handle in (self._flush_soon, self._flush_later):
            if handle is not None:
                handle.cancel()
        self._flush_soon = self._flush_later = None

    def _schedule(self) -> None:
        if not self._waiting or not self._is_open or self._flush_soon is not None:
            return
        if self._under_way < WINDOW or self._instances >= self._size(self.target):
            self._flush_soon = self._loop.call_soon(self._flush)
        elif self._flush_later is None:
            self._flush_later = self._loop.call_later(FILL_S, self._flush)

    def _flush(self) -> None:
        if self._flush_later is not None:
            self._flush_later.cancel()
        self._flush_soon = self._flush_later = None
        room, used = self._size(self.target), 0
        chosen: list[Pending] = []
        while self._waiting and used < LARGEST_BUNDLE_BYTES:
            pending = self._waiting[0]
            if pending.call.outcome is None:
                if pending.instances > room and chosen:
                    break
                chosen.append(pending)
                room -= pending.instances
                used += len(pending.call.request.input)
            self._waiting.popleft()
            self._instances -= pending.instances
        if chosen:
            bundle = Bundle(self, chosen)
            for pending in chosen:
                pending.bundle = bundle
            self._under_way += 1
            self._depart(bundle)
        self._schedule()
