"""One model in the cluster: gateways, the broker's queue, and workers, as the product has them.

A request arrives at a gateway, leaves in a bundle, waits in the queue, goes to the next worker in
turn that has room (prefetch), runs in a batch with what else waits there, and is answered; or it is
refused at the door, or given up at its deadline.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
import simpy

from bench.simulate.arrivals import Times
from bench.simulate.gateway import Bundle, Gateway
from bench.simulate.service import Service
from bench.simulate.worker import Worker


class Rules(NamedTuple):
    """How requests of one model are treated; the defaults are a plain queue with no limits."""

    rows: int = 1
    max_batch_size: int = 1
    timeout_s: float = 1e9
    max_in_flight: int = 1 << 60
    prefetch: int = 1
    fill_s: float = 0.0
    spare_s: float = 0.0
    way_s: float = 0.0


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
        self.gateways = [Gateway(self, arrivals[n::gateways]) for n in range(gateways)]
        for _ in range(workers):
            self.add_worker(0.0)

    def run(self, until_s: float) -> Times:
        """Run to the end; gives each request's latency, or REFUSED or EXPIRED."""
        self.env.run(until_s)
        latency = np.empty(len(self._arrivals))
        for number, gateway in enumerate(self.gateways):
            latency[number :: len(self.gateways)] = gateway.latency
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
