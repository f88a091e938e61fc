"""One model in the cluster: gateways, the broker's queue, and workers, as the product has them.

A request arrives at a gateway, leaves in a bundle (``transports/amqp/client.py``), waits in the
queue, goes to the next worker in turn that has room (prefetch), runs in a batch with what else
waits there (``core/batch.py``: an idle runner takes at once all that fits), and is answered, or
refused at the door (``max_in_flight``), or given up at its deadline.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Generator
from typing import Any, NamedTuple

import numpy as np
import simpy

from bench.simulate.arrivals import Times
from bench.simulate.service import Service

Process = Generator[simpy.Event, Any, None]
REFUSED, EXPIRED = -1.0, -2.0


class Rules(NamedTuple):
    """How requests of one model are treated; the defaults are a plain queue with no limits."""

    rows: int = 1
    max_batch_size: int = 1
    timeout_s: float = 1e9
    max_in_flight: int = 1 << 60
    prefetch: int = 1
    window: int = 1 << 60
    fill_s: float = 0.0
    way_s: float = 0.0


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
        self._outstanding = 0
        self._in_flight = 0
        self._deadlines: deque[tuple[float, Bundle]] = deque()
        self._freed: simpy.Event | None = None
        farm.env.process(self._run())

    def _run(self) -> Process:
        rules, times, env = self._farm.rules, self.times, self._env
        size, first = rules.max_batch_size, 0
        while first < len(times):
            if times[first] > env.now:
                yield env.timeout(times[first] - env.now)
            full = first + size - 1
            is_full = full < len(times) and times[full] <= env.now
            if self._outstanding >= rules.window and not is_full:
                until = min([times[first] + rules.fill_s, *times[full : full + 1]])
                self._freed = env.event()
                yield env.timeout(max(until - env.now, 0)) | self._freed
                self._freed = None
            end = max(bisect_right(times, env.now, first, min(first + size, len(times))), first + 1)
            self._send(first, end)
            first = end

    def _send(self, first: int, end: int) -> None:
        rules, deadlines = self._farm.rules, self._deadlines
        while deadlines and (deadlines[0][0] <= self._env.now or not deadlines[0][1].left):
            _, bundle = deadlines.popleft()
            bundle.is_given_up = True
            self._in_flight -= bundle.left
        admitted = min(end, first + max(rules.max_in_flight - self._in_flight, 0))
        self.latency[admitted:end] = [REFUSED] * (end - admitted)
        if admitted == first:
            return
        bundle = Bundle(self, first, admitted)
        deadlines.append((self.times[first] + rules.timeout_s, bundle))
        self._in_flight += bundle.left
        self._outstanding += 1
        self._farm.carry(bundle)

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
        if not bundle.left:
            self._outstanding -= 1
            if self._freed is not None and not self._freed.triggered:
                self._freed.succeed()


class Worker:
    """A pod: a pool with one runner."""

    def __init__(self, farm: Farm, *, ready_at: float) -> None:
        self._farm = farm
        self.ready_at = ready_at
        self.is_ready = False
        self.is_leaving = False
        self.unacked = 0
        self.usage: float | None = None
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
        self._cpu_s += self._batch[1]
        self._batch = (0.0, 0.0, 1.0)
        parts: list[tuple[Bundle, int, int]] = event.value or []
        for bundle, first, end in parts:
            self._answer(bundle, first, end)
        self._start()

    def _answer(self, bundle: Bundle, first: int, end: int = 0) -> None:
        end = end or first + 1
        bundle.gateway.settle(bundle, first, end)
        if end == bundle.end:
            self.unacked -= 1
            self._farm.acked(self)


class Farm:
    """All of it; ``run`` takes it to the end.

    Args:
        arrivals: When requests come, at all gateways together.
        service: What a worker needs for a batch.
        rules: How requests are treated.
        workers: How many are ready when it begins.
        gateways: How many share the requests in turns.
    """

    def __init__(
        self, arrivals: Times, service: Service, rules: Rules, *, workers: int, gateways: int = 1
    ) -> None:
        self.env = simpy.Environment()
        self.service = service
        self.rules = rules
        self.workers: list[Worker] = []
        self._arrivals = arrivals
        self._queue: deque[Bundle] = deque()
        self._turns: deque[Worker] = deque()
        self._gateways = [Gateway(self, arrivals[n::gateways]) for n in range(gateways)]
        for _ in range(workers):
            self.add_worker(0.0)

    def run(self, until_s: float) -> Times:
        """Run to the end; gives each request's latency, or REFUSED or EXPIRED."""
        self.env.run(until_s)
        latency = np.empty(len(self._arrivals))
        for number, gateway in enumerate(self._gateways):
            latency[number :: len(self._gateways)] = gateway.latency
        return latency

    # The broker.

    def carry(self, bundle: Bundle) -> None:
        """Put a bundle into the queue, after what the way there and back takes: answers then take
        no time, which is an event less for each.
        """
        if not self.rules.way_s:
            self._publish(bundle)
            return
        event = self.env.timeout(self.rules.way_s)
        assert event.callbacks is not None
        event.callbacks.append(lambda _: self._publish(bundle))

    def _publish(self, bundle: Bundle) -> None:
        self._queue.append(bundle)
        self._deliver()

    def acked(self, worker: Worker) -> None:
        """Give the worker more, if it stays; let it go when it is done and should."""
        if worker.is_leaving:
            if not worker.unacked:
                self.workers.remove(worker)
            return
        if worker not in self._turns:
            self._turns.append(worker)
        self._deliver()

    def messages(self) -> tuple[int, int]:
        """Give how many messages are ready, and how many delivered and not acknowledged."""
        self._drop_expired()
        return len(self._queue), sum(worker.unacked for worker in self.workers)

    def _deliver(self) -> None:
        """Deliver to the consumers in turn, each up to its prefetch, busy or not."""
        self._drop_expired()
        while self._queue and self._turns:
            worker = self._turns.popleft()
            bundle = self._queue.popleft()
            if worker.unacked + 1 < self.rules.prefetch:
                self._turns.append(worker)
            worker.take(bundle)

    def _drop_expired(self) -> None:
        latest = self.env.now - self.rules.timeout_s
        while self._queue and self._queue[0].gateway.times[self._queue[0].end - 1] <= latest:
            bundle = self._queue.popleft()
            bundle.gateway.count(bundle, bundle.left)

    # The pods.

    @property
    def staying(self) -> list[Worker]:
        """All that are not leaving, the oldest first."""
        return [worker for worker in self.workers if not worker.is_leaving]

    def add_worker(self, start_s: float) -> None:
        """Start a pod, which is ready after ``start_s``."""
        worker = Worker(self, ready_at=self.env.now + start_s)
        self.workers.append(worker)

        def get_ready(_: simpy.Event) -> None:
            if not worker.is_leaving:
                worker.is_ready = True
                self.acked(worker)

        event = self.env.timeout(start_s)
        assert event.callbacks is not None
        event.callbacks.append(get_ready)

    def remove_worker(self) -> None:
        """Let the newest pod finish what it has, and go."""
        worker = self.staying[-1]
        worker.is_leaving = True
        if worker in self._turns:
            self._turns.remove(worker)
        if not worker.unacked:
            self.workers.remove(worker)
