"""All metrics, in one registry per process.

Label values come from manifests and from constants in this code, never from a client. So clients
cannot increase the number of time series.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.samples import Exemplar

from modelyard.core.names import Target
from modelyard.telemetry.collectors import Histograms, Tallies
from modelyard.telemetry.jobs import JobMetrics
from modelyard.telemetry.models import ModelMetrics
from modelyard.telemetry.payloads import PayloadMetrics
from modelyard.telemetry.pool import PoolMetrics
from modelyard.telemetry.readings import Readings
from modelyard.telemetry.usage import UsageMetrics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_TARGET = ("model", "version")
_NO_TARGET = Target("", "")  # for requests for models that do not exist


BROKER_EVENTS = (
    "departed",
    "expired",
    "late",
    "nacked",
    "orphan",
    "publish_timeout",
    "redelivered",
    "refused",
    "resent",
    "returned",
)
REDIS_EVENTS = ("damaged", "dropped", "error", "skipped")


class Metrics:
    """The registry and every metric in it."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self._requests = Tallies(
            "modelyard_requests",
            "Requests answered, by outcome: ok or the code of the problem.",
            (*_TARGET, "code"),
        )
        self._cache = Tallies(
            "modelyard_cache_requests",
            "Cacheable requests: hit, miss, coalesced (joined one in flight), or bypass.",
            (*_TARGET, "use"),
        )
        self._latency = Histograms(
            "modelyard_request_seconds",
            "From the arrival of a request to the writing of its answer.",
            _TARGET,
            bounds=_SECONDS,
        )
        self._queue_wait = Histograms(
            "modelyard_queue_wait_seconds",
            "How long requests waited in the pool for a runner.",
            _TARGET,
            bounds=_SECONDS,
        )
        for collector in (self._requests, self._cache, self._latency, self._queue_wait):
            registry.register(collector)
        self._expired = Counter(
            "modelyard_expired",
            "Requests whose deadline passed: in the gateway (asking), or in a pool (waiting).",
            (*_TARGET, "where"),
            registry=registry,
        )
        self._shadows = Counter(
            "modelyard_shadow_answers",
            "Copies of requests for a shadow, by how its answer compares: same, different, failed, "
            "or dropped where there was no room.",
            (*_TARGET, "result"),
            registry=registry,
        )
        self._shadow_time = Counter(
            "modelyard_shadow_seconds",
            "Seconds from a request to its shadow's answer.",
            _TARGET,
            registry=registry,
        )
        self._late = Counter(
            "modelyard_late_replies",
            "Answers that came after their request was settled.",
            _TARGET,
            registry=registry,
        )
        self._broker = Counter(
            "modelyard_broker_events",
            "Broker events: resent, returned, nacked, publish_timeout, redelivered, expired, "
            "refused, departed (its caller left before it ran), and replies that were late or "
            "belonged to no request (orphan).",
            ("event",),
            registry=registry,
        )
        for event in BROKER_EVENTS:  # a counter that appears at 1 has no rate
            self._broker.labels(event)
        self._broker_connected = Gauge(
            "modelyard_broker_connected",
            "1 while there is a session with the broker, else 0; absent without a broker.",
            ("broker",),
            registry=registry,
        )
        self._redis = Counter(
            "modelyard_redis_events",
            "Calls that failed (error), were not made (skipped by the breaker, dropped), or found "
            "a damaged value (damaged).",
            ("event",),
            registry=registry,
        )
        for event in REDIS_EVENTS:
            self._redis.labels(event)
        self._in_flight = Gauge(
            "modelyard_in_flight", "Requests in flight in this gateway.", _TARGET, registry=registry
        )
        self._demand = Gauge(
            "modelyard_demand_runners",
            "Runners that this gateway's load on a target needs; sum over the gateways.",
            _TARGET,
            registry=registry,
        )
        self._body_bytes = Gauge(
            "modelyard_body_bytes",
            "Bytes of the large bodies of all requests in progress.",
            registry=registry,
        )
        self._batch_size = Histogram(
            "modelyard_batch_size",
            "Instances in each call of predict.",
            _TARGET,
            buckets=_SIZES,
            registry=registry,
        )
        self._model_time = Histogram(
            "modelyard_model_seconds",
            "Time inside predict, per batch handed to a runner.",
            _TARGET,
            buckets=_SECONDS,
            registry=registry,
        )
        self._runners = Gauge(
            "modelyard_runners",
            "Runners of the pool: all, and those that are ready.",
            (*_TARGET, "state"),
            registry=registry,
        )
        self._lost = Counter(
            "modelyard_runner_restarts",
            "Ends of runners: crashed, killed (from outside), hung, cancelled or load_failed.",
            (*_TARGET, "cause"),
            registry=registry,
        )

        self.used = UsageMetrics(registry).used
        self.jobs = JobMetrics(registry)
        self._of_models = ModelMetrics(registry)
        self.payloads = PayloadMetrics(registry)
        self.readings = Readings(
            requests=self._requests,
            cache=self._cache,
            latency=self._latency,
            queue_wait=self._queue_wait,
            batch_size=self._batch_size,
            model_time=self._model_time,
        )

    def page(self, accept: str = "") -> tuple[bytes, str]:
        """Return the metrics and their content type: OpenMetrics, where there are traces to name
        and ``accept`` allows it.
        """
        if self._latency.has_exemplars:
            encode, content_type = choose_encoder(accept)
            return encode(self.registry), content_type
        return self.render(), CONTENT_TYPE

    def render(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def answered(self, target: Target | None, code: str, seconds: float) -> None:
        """Count an answer; ``target`` is None if no such model exists."""
        target = target or _NO_TARGET
        self._requests.count((target.name, target.version, code))
        self._latency.observe((target.name, target.version), seconds)

    def illustrate(self, target: Target, seconds: float, *, trace_id: str, at: float) -> None:
        """Name a trace that took so long; ``at``: Unix time."""
        told = Exemplar({"trace_id": trace_id}, seconds, at)
        self._latency.illustrate((target.name, target.version), told)

    def asked_cache(self, target: Target, use: str) -> None:
        """Count how the cache served a request."""
        self._cache.count((target.name, target.version, use))

    def expired(self, target: Target) -> None:
        """Count a request that got no answer in time."""
        self._expired.labels(target.name, target.version, "asking").inc()

    def shadowed(self, target: Target, result: str, seconds: float) -> None:
        """Count what came of a copy of a request."""
        self._shadows.labels(target.name, target.version, result).inc()
        if result != "dropped":
            self._shadow_time.labels(target.name, target.version).inc(seconds)

    def broker_event(self, event: str) -> None:
        """Count an event of the broker connection."""
        self._broker.labels(event).inc()

    def broker_events(self) -> dict[str, float]:
        """Return how often each event of the broker connection was counted."""
        (family,) = self._broker.collect()
        return {s.labels["event"]: s.value for s in family.samples if s.name.endswith("_total")}

    def watch_broker(self, is_connected: Callable[[], bool]) -> None:
        """Read ``is_connected`` whenever the metrics are scraped."""
        self._broker_connected.labels("amqp").set_function(is_connected)

    def redis_event(self, event: str) -> None:
        """Count a failure of Redis."""
        self._redis.labels(event).inc()

    def watch_in_flight(self, target: Target, in_flight: Callable[[], int]) -> None:
        """Read ``in_flight`` whenever the metrics are scraped."""
        self._in_flight.labels(target.name, target.version).set_function(in_flight)

    def watch_demand(self, target: Target, runners: Callable[[], float]) -> None:
        """Read ``runners`` whenever the metrics are scraped."""
        self._demand.labels(target.name, target.version).set_function(runners)

    def forget(self, target: Target) -> None:
        """Drop the gauges of a target that is gone; its counters stay."""
        labels = (target.name, target.version)
        for gauge in (self._in_flight, self._demand):
            with contextlib.suppress(KeyError):
                gauge.remove(*labels)
        for state in ("all", "ready"):
            with contextlib.suppress(KeyError):
                self._runners.remove(*labels, state)

    def watch_bodies(self, taken: Callable[[], int]) -> None:
        """Read ``taken`` whenever the metrics are scraped."""
        self._body_bytes.set_function(taken)

    def set_runners(self, target: Target, *, all_: int, ready: int) -> None:
        """Set the number of runners of a pool."""
        self._runners.labels(target.name, target.version, "all").set(all_)
        self._runners.labels(target.name, target.version, "ready").set(ready)

    def of_pool(self, target: Target) -> PoolMetrics:
        """Return the metrics of one pool."""
        labels = (target.name, target.version)
        return PoolMetrics(
            queue_wait=partial(self._queue_wait.observe, labels),
            batch_size=self._batch_size.labels(*labels),
            model_time=self._model_time.labels(*labels),
            expired=self._expired.labels(*labels, "waiting"),
            late=self._late.labels(*labels),
            lost={
                cause: self._lost.labels(*labels, cause)
                for cause in ("crashed", "killed", "hung", "cancelled", "load_failed")
            },
            measured=partial(self._of_models.add, target),
            runner_ended=partial(self._of_models.runner_ended, target),
        )
