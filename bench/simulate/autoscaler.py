"""The Kubernetes HPA, for CPU or for the length of the queue (KEDA hands it that).

Follows ``GetResourceReplicas`` and ``GetExternalPerPodMetricReplicas`` of
kubernetes/pkg/controller/podautoscaler/replica_calculator.go, and the default behaviour of
autoscaling/v2: up without a window by 4 pods or 100 % per 15 s. Down to the highest recommendation
of the last 300 s, and no more than the charts' half of the pods per 60 s.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from bench.simulate import parameters as p
from bench.simulate.farm import Farm
from bench.simulate.gateway import Process
from bench.simulate.worker import Worker


class Signal(Protocol):
    """What an HPA looks at."""

    def wanted(self, replicas: int) -> int:
        """Give how many replicas the signal asks for."""
        ...


class CpuSignal:
    """CPU in percent of the request, by way of the metrics server.

    Args:
        farm: Where the pods are.
        request_cores: ``resources.requests.cpu`` of a pod.
    """

    def __init__(self, farm: Farm, *, request_cores: float) -> None:
        self._farm = farm
        self._aim_s = p.CPU_TARGET.value * request_cores
        self._request_s = request_cores
        self._last: dict[Worker, tuple[float, float]] = {}
        farm.env.process(self._scrape())

    def _scrape(self) -> Process:
        env = self._farm.env
        while True:
            yield env.timeout(p.CPU_SCRAPE_S.value)
            last, self._last = self._last, {}
            for worker in self._farm.staying:
                if worker.is_ready:
                    now = self._last[worker] = (env.now, worker.cpu_s())
                    if worker in last:
                        at, used = last[worker]
                        worker.usage = (now[1] - used) / (now[0] - at)

    def wanted(self, replicas: int) -> int:
        """Give ceil(ratio x pods); pods without a sample count as idle, or as busy on the way
        down, so that they slow either direction.
        """
        pods = self._farm.staying
        used = [worker.usage for worker in pods if worker.usage is not None]
        if not used:
            return replicas
        ratio = sum(used) / len(used) / self._aim_s
        unsampled = len(pods) - len(used)
        starting = sum(not worker.is_ready for worker in pods)
        if ratio > 1:
            used += [0.0] * unsampled
        else:
            used += [self._request_s] * (unsampled - starting)
        again = sum(used) / len(used) / self._aim_s
        if abs(again - 1) <= p.TOLERANCE.value or (again > 1) != (ratio > 1):
            return replicas
        wanted = math.ceil(round(again * len(used), 9))
        return replicas if (again > 1) != (wanted > replicas) else wanted


class QueueSignal:
    """Messages of the queue per pod; by AMQP only the ready ones are seen, by HTTP all."""

    def __init__(self, farm: Farm, *, is_ready_only: bool = False) -> None:
        self._farm = farm
        self._is_ready_only = is_ready_only
        self._seen = 0
        farm.env.process(self._sample())

    def _sample(self) -> Process:
        while True:
            ready, unacked = self._farm.messages()
            self._seen = ready if self._is_ready_only else ready + unacked
            yield self._farm.env.timeout(p.QUEUE_SAMPLE_S.value)

    def wanted(self, replicas: int) -> int:
        """Give ceil(messages / target), unless that is within the tolerance of what there is."""
        target = (p.READY_TARGET if self._is_ready_only else p.QUEUE_TARGET).value
        if abs(self._seen / (target * replicas) - 1) <= p.TOLERANCE.value:
            return replicas
        return math.ceil(self._seen / target)


class Count(NamedTuple):
    """How many pods there were at a moment, and how many of them ready."""

    at_s: float
    pods: int
    ready: int


class Autoscaler:
    """Changes a farm's workers as its signal asks, within the default behaviour."""

    def __init__(self, farm: Farm, signal: Callable[[Farm], Signal], *, pod_start_s: float) -> None:
        self._farm = farm
        self._signal = signal(farm)
        self._pod_start_s = pod_start_s
        self._asked: deque[tuple[float, int]] = deque()
        self._had: deque[tuple[float, int]] = deque()
        self.counts: list[Count] = []
        farm.env.process(self._decide_on_and_on())
        farm.env.process(self._watch())

    def _decide_on_and_on(self) -> Process:
        while True:
            yield self._farm.env.timeout(p.SYNC_S.value)
            self._decide()

    def _decide(self) -> None:
        farm, now = self._farm, self._farm.env.now
        replicas = len(farm.staying)
        asked = self._signal.wanted(replicas)
        self._asked.append((now, asked))
        self._had.append((now, replicas))
        while self._asked[0][0] < now - p.DOWN_WINDOW_S.value:
            self._asked.popleft()
        if asked < replicas:
            asked = min(max(count for _, count in self._asked), replicas)
        grown = max(replicas + p.UP_PODS.value, replicas * (1 + p.UP_SHARE.value))
        for _ in range(replicas, int(min(asked, grown, p.MAX_PODS.value))):
            farm.add_worker(self._pod_start_s)
        while self._had[0][0] < now - 60:
            self._had.popleft()
        most = max(count for _, count in self._had)
        least = max(asked, p.MIN_PODS.value, math.ceil(most * (1 - p.DOWN_SHARE.value)))
        for _ in range(int(least), replicas):
            farm.remove_worker()

    def _watch(self) -> Process:
        while True:
            pods = self._farm.workers
            ready = sum(worker.is_ready for worker in pods)
            self.counts.append(Count(self._farm.env.now, len(pods), ready))
            yield self._farm.env.timeout(1)
