"""A simulated gateway: takes requests, refuses what is too much, and sends the rest in bundles.

As ``dispatch/dispatch.py`` (``max_in_flight``, deadlines) and ``transports/amqp/lanes.py`` do.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import simpy

from bench.simulate.arrivals import Times

if TYPE_CHECKING:
    from bench.simulate.farm import Farm

Process = Generator[simpy.Event, Any, None]
REFUSED, EXPIRED = -1.0, -2.0


class Bundle:
    """Requests from ``next`` to ``end`` of a gateway; ``left`` of them have no answer yet."""

    __slots__ = ("end", "gateway", "is_given_up", "left", "next")

    def __init__(self, gateway: Gateway, first: int, end: int) -> None:
        self.gateway = gateway
        self.next = first
        self.end = end
        self.left = end - first
        self.is_given_up = False


class Gateway:
    """Takes the requests that come to it, and bundles them."""

    def __init__(self, farm: Farm, times: Times) -> None:
        self._farm = farm
        self._env = farm.env
        self.times: list[float] = times.tolist()
        self.latency = [EXPIRED] * len(times)
        self._outstanding = self._unanswered = 0  # bundles, and requests in them
        self.asked = 0  # refused ones too
        self._in_flight = 0
        self._deadlines: deque[tuple[float, Bundle]] = deque()
        self._freed: simpy.Event | None = None
        farm.env.process(self._run())

    def _run(self) -> Process:
        rules, times, env = self._farm.rules, self.times, self._env
        size, first = max(1, rules.max_batch_size // rules.rows), 0
        while first < len(times):
            if times[first] > env.now:
                yield env.timeout(times[first] - env.now)
            yield from self._wait_for_more(first, size)
            end = max(bisect_right(times, env.now, first, min(first + size, len(times))), first + 1)
            self._send(first, end)
            first = end

    def _wait_for_more(self, first: int, size: int) -> Process:
        """Wait until the requests from ``first`` on are worth a bundle."""
        rules, times, env = self._farm.rules, self.times, self._env
        runners = sum(worker.is_ready for worker in self._farm.workers)
        patience_s = rules.spare_s if self._outstanding < runners else rules.fill_s
        until = times[first] + patience_s
        while env.now < until:
            enough = first + min(max(self._unanswered, 1), size) - 1
            if enough < len(times) and times[enough] <= env.now:
                return
            come = min([until, *times[enough : enough + 1]])
            self._freed = env.event()
            yield env.timeout(come - env.now) | self._freed
            self._freed = None

    def _send(self, first: int, end: int) -> None:
        rules, deadlines = self._farm.rules, self._deadlines
        self.asked = end
        admitted = min(end, first + max(rules.max_in_flight - self.in_flight(), 0))
        self.latency[admitted:end] = [REFUSED] * (end - admitted)
        if admitted == first:
            return
        bundle = Bundle(self, first, admitted)
        deadlines.append((self.times[first] + rules.timeout_s, bundle))
        self._in_flight += bundle.left
        self._outstanding += 1
        self._unanswered += bundle.left
        self._farm.carry(bundle)

    def in_flight(self) -> int:
        """Give how many requests have no answer and have not passed their deadline."""
        deadlines = self._deadlines
        while deadlines and (deadlines[0][0] <= self._env.now or not deadlines[0][1].left):
            _, bundle = deadlines.popleft()
            bundle.is_given_up = True
            self._in_flight -= bundle.left
        return self._in_flight

    def settle(self, bundle: Bundle, first: int, end: int) -> None:
        """Note the answers to these requests, unless they come too late."""
        now, longest = self._env.now, self._farm.rules.timeout_s
        for number in range(first, end):
            took = now - self.times[number]
            if took <= longest:
                self.latency[number] = took
        self.count(bundle, end - first)

    def count(self, bundle: Bundle, answered: int) -> None:
        """Count answers; the bundle's last one makes room for another bundle."""
        bundle.left -= answered
        if not bundle.is_given_up:
            self._in_flight -= answered
        self._unanswered -= answered
        if not bundle.left:
            self._outstanding -= 1
        if self._freed is not None and not self._freed.triggered:
            self._freed.succeed()
