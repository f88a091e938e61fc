"""A simulated worker: a pool with one runner, as ``pool/pool.py`` and ``core/batch.py`` have it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import simpy

from bench.simulate.gateway import Bundle
from modelyard.core.pace import Pace

if TYPE_CHECKING:
    from bench.simulate.farm import Farm


class Worker:
    """A pod: a pool with one runner."""

    def __init__(self, farm: Farm, *, ready_at: float) -> None:
        self._farm = farm
        self.ready_at = ready_at
        self.is_ready = False
        self.is_leaving = False
        self.unacked = 0
        self.usage: float | None = None
        self.pace = Pace()
        self._local: deque[Bundle] = deque()
        self._is_busy = False
        self._cpu_s = 0.0
        self._batch = (0.0, 0.0, 1.0)  # when it began, its processor time, its length

    def cpu_s(self) -> float:
        """Give the processor time used so far."""
        if not self._is_busy:
            return self._cpu_s
        began, cpu_s, seconds = self._batch
        return self._cpu_s + cpu_s * (self._farm.env.now - began) / seconds

    def take(self, bundle: Bundle) -> None:
        """Let a bundle wait for the runner."""
        self.unacked += 1
        self._local.append(bundle)
        if not self._is_busy:
            self._start()

    def _start(self) -> None:
        """Run the next batch, if anything waits."""
        self._is_busy = True  # also while it is chosen: an ack may bring the next bundle meanwhile
        farm, rules = self._farm, self._farm.rules
        latest = farm.env.now - rules.timeout_s  # what arrived by then has expired
        room, requests = rules.max_batch_size, 0
        parts: list[tuple[Bundle, int, int]] = []
        while self._local:
            bundle = self._local[0]
            while bundle.next < bundle.end and bundle.gateway.times[bundle.next] <= latest:
                bundle.next += 1
                self._answer(bundle, bundle.next - 1)
            fitting = max(room // rules.rows, 0 if requests else 1)
            count = min(fitting, bundle.end - bundle.next)
            if count:
                parts.append((bundle, bundle.next, bundle.next + count))
                bundle.next += count
                requests += count
                room -= count * rules.rows
            if bundle.next < bundle.end:
                break
            self._local.popleft()
        self._is_busy = requests > 0
        if requests:
            seconds, cpu_s = farm.service(requests)
            self._batch = (farm.env.now, cpu_s, seconds)
            done = farm.env.timeout(seconds, parts)
            assert done.callbacks is not None
            done.callbacks.append(self._done)

    def _done(self, event: simpy.Event) -> None:
        parts: list[tuple[Bundle, int, int]] = event.value or []
        self._measure(sum(end - first for _, first, end in parts))
        self._batch = (0.0, 0.0, 1.0)
        for bundle, first, end in parts:
            self._answer(bundle, first, end)
        self._start()

    def _measure(self, requests: int) -> None:
        _, cpu_s, seconds = self._batch
        self._cpu_s += cpu_s
        rows, size = requests * self._farm.rules.rows, self._farm.rules.max_batch_size
        calls = max(1, -(-rows // size))
        self.pace.add(rows / calls, seconds / calls)

    def _answer(self, bundle: Bundle, first: int, end: int = 0) -> None:
        end = end or first + 1
        bundle.gateway.settle(bundle, first, end)
        if end == bundle.end:
            self.unacked -= 1
            self._farm.acked(self)
