"""Sends spans to a collector by OTLP over HTTP, or writes them to the terminal."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Mapping
from typing import Literal

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from modelyard.core.spans import Context, Span

Where = Literal["otlp", "console"]

SCOPE = "modelyard"
MOST_WAITING = 8192  # spans; more are dropped, and the exporter says how many
EVERY_MS = 500.0
CLOSING_S = 2.0
_KINDS = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}


class Processor(BatchSpanProcessor):
    """Sends ended spans from a thread of its own; ends within a bounded time."""

    def __init__(self, exporter: SpanExporter) -> None:
        super().__init__(exporter, max_queue_size=MOST_WAITING, schedule_delay_millis=EVERY_MS)
        self._sends = exporter

    def shutdown(self) -> None:
        """Send what waits; give up soon if the collector is away."""
        give_up = threading.Timer(CLOSING_S, self._sends.shutdown)
        give_up.daemon = True
        give_up.start()
        try:
            super().shutdown()  # type: ignore[no-untyped-call]
        finally:
            give_up.cancel()


def make_processor(where: Where, url: str) -> Processor:
    """Return what sends ended spans from a thread of its own.

    ``url``: the collector's, without ``/v1/traces``; empty for what OpenTelemetry's own variables
    say (``OTEL_EXPORTER_OTLP_ENDPOINT``), or else ``http://localhost:4318``.
    """
    return Processor(_make_exporter(where, url))


def make_resource(service: str, attributes: Mapping[str, str]) -> Resource:
    """Return what all spans of this process say of it."""
    return Resource.create({"service.name": service, **attributes})


class Exporter:
    """Sends the spans of one process.

    Args:
        where: To a collector, or to the terminal.
        url: See ``make_processor``.
        service: The name of the process, as ``modelyard-gateway``.
        attributes: What else all of its spans say.
    """

    def __init__(
        self, where: Where, url: str, *, service: str, attributes: Mapping[str, str]
    ) -> None:
        self._processor = make_processor(where, url)
        self._resource = make_resource(service, attributes)
        self._scope = InstrumentationScope(SCOPE)

    def record(self, span: Span) -> None:
        """Send a span soon; drops it if too many wait."""
        parent = Context(span.context.trace_id, span.parent_id) if span.parent_id else None
        self._processor.on_end(
            ReadableSpan(
                span.name,
                context=context_of(span.context, is_remote=False),
                parent=None if parent is None else context_of(parent),
                resource=self._resource,
                attributes=span.attributes,
                links=[Link(context_of(link)) for link in span.links],
                kind=_KINDS[span.kind],
                status=Status(StatusCode.ERROR, span.error) if span.error else Status(),
                start_time=int(span.began * 1e9),
                end_time=int(span.ended * 1e9),
                instrumentation_scope=self._scope,
            )
        )

    def close(self) -> None:
        """Send what waits; blocks for ``CLOSING_S`` if the collector is away."""
        self._processor.shutdown()


def context_of(context: Context, *, is_remote: bool = True) -> SpanContext:
    """Return OpenTelemetry's form of a context."""
    return SpanContext(
        int(context.trace_id, 16),
        int(context.span_id, 16),
        is_remote=is_remote,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )


def _make_exporter(where: Where, url: str) -> SpanExporter:
    if where == "console":
        return ConsoleSpanExporter(out=sys.stderr, formatter=_line_of)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    # A collector that is away is said once, not with the traceback of each attempt.
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)
    return OTLPSpanExporter(endpoint=f"{url.rstrip('/')}/v1/traces" if url else None)


def _line_of(span: ReadableSpan) -> str:
    own, parent = span.get_span_context(), span.parent
    assert own is not None
    took_ms = ((span.end_time or 0) - (span.start_time or 0)) / 1e6
    above = f" in {parent.span_id:016x}" if parent is not None else ""
    failed = "" if span.status.is_ok else f" error: {span.status.description}"
    return (
        f"span {own.trace_id:032x} {own.span_id:016x}{above} {span.name!r} {took_ms:.2f} ms"
        f"{failed}{os.linesep}"
    )
