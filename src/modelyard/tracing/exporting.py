"""Sends the spans of one process to a collector, or writes them to the terminal."""

from __future__ import annotations

import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from opentelemetry.sdk.resources import Resource

from modelyard.core.spans import Span
from modelyard.tracing.otlp import Collector, CollectorError, encode

Where = Literal["otlp", "console"]

SCOPE = "modelyard"
MOST_WAITING = 8192  # spans; more are dropped
MOST_SENT = 1024  # at once
EVERY_S = 2.0  # what is sent together costs a tenth of it alone
RETRIES_S = (1.0, 2.0, 4.0, 8.0)
CLOSING_S = 2.0

log = logging.getLogger(__name__)


class Exporter:
    """Takes spans at any time, and sends them from a thread of its own.

    Args:
        where: To a collector, or to the terminal.
        url: The collector's, without ``/v1/traces``; empty for what OpenTelemetry's own variables
            say (``OTEL_EXPORTER_OTLP_ENDPOINT``), or else ``http://localhost:4318``.
        service: The name of the process, as ``modelyard-gateway``.
        attributes: What else all of its spans say.
    """

    def __init__(
        self, where: Where, url: str, *, service: str, attributes: Mapping[str, str]
    ) -> None:
        self._send: Callable[[Sequence[Span]], None]
        self._send = _print if where == "console" else _ToCollector(url, service, attributes)
        self._waiting: deque[Span] = deque()
        self._dropped = 0
        self._is_away = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def record(self, span: Span) -> None:
        """Send a span soon; drops it if too many wait."""
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(span)
        else:
            self._dropped += 1

    def close(self) -> None:
        """Send what waits; blocks for ``CLOSING_S`` if the collector is away."""
        self._closing.set()
        self._thread.join(CLOSING_S)

    def _run(self) -> None:
        while not self._closing.wait(EVERY_S):
            self._empty()
        self._empty()

    def _empty(self) -> None:
        while self._waiting:
            count = min(len(self._waiting), MOST_SENT)
            self._deliver([self._waiting.popleft() for _ in range(count)])

    def _deliver(self, spans: Sequence[Span]) -> None:
        for pause_s in (*RETRIES_S, None):
            try:
                self._send(spans)
            except CollectorError as error:
                if not self._is_away:
                    log.warning("the collector of traces takes no spans: %s", error)
                    self._is_away = True
                if pause_s is None or not error.is_passing or self._closing.wait(pause_s):
                    self._dropped += len(spans)
                    return
            except Exception:
                log.exception("%d spans could not be written", len(spans))
                return
            else:
                if self._is_away or self._dropped:
                    log.warning("spans are sent again; %d were dropped", self._dropped)
                    self._is_away, self._dropped = False, 0
                return


def resource_of(service: str, attributes: Mapping[str, str]) -> Resource:
    """Return what all spans of this process say of it."""
    return Resource.create({"service.name": service, **attributes})


class _ToCollector:
    def __init__(self, url: str, service: str, attributes: Mapping[str, str]) -> None:
        self._collector = Collector(url)
        told = resource_of(service, attributes).attributes
        self._resource = {key: value for key, value in told.items() if isinstance(value, str)}

    def __call__(self, spans: Sequence[Span]) -> None:
        self._collector.post(encode(spans, resource=self._resource, scope=SCOPE))


def _print(spans: Sequence[Span]) -> None:
    sys.stderr.write("".join(map(line_of, spans)))


def line_of(span: Span) -> str:
    """Return what the terminal shows of a span."""
    above = f" in {span.parent_id}" if span.parent_id else ""
    failed = f" error: {span.error}" if span.error else ""
    return (
        f"span {span.context.trace_id} {span.context.span_id}{above} {span.name!r} "
        f"{(span.ended - span.began) * 1e3:.2f} ms{failed}\n"
    )
