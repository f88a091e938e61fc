"""The spans of a runner: what it did for the traced requests of a batch. Only where traces are on.

The span of the first of them is the current one while the model runs, so what the model makes with
OpenTelemetry itself becomes part of that trace.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from random import SystemRandom
from typing import Any

from opentelemetry import context, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, StatusCode, TraceFlags

from modelyard.core.messages import Origin
from modelyard.core.spans import Context, Ids, Span, Value, parent_of
from modelyard.runner.lazy_span import GivenIds, LazySpan
from modelyard.runner.run import Predictor
from modelyard.tracing.exporting import CLOSING_S, SCOPE, Exporter, Where, line_of, resource_of

_SERVICE = "modelyard-runner"
_EVERY_MS = 500.0


class _Running:
    """A batch that runs and is traced."""

    def __init__(self, run: Context) -> None:
        self.run = run
        self.predicted: list[tuple[float, float]] = []  # calls of the model: from when until when


_running: ContextVar[_Running | None] = ContextVar("running", default=None)


class RunnerSpans:
    """Records what a runner does for traced requests.

    Args:
        where, url: See ``tracing/exporting.py``.
        name: Of the model.
        version: Of the model.
    """

    def __init__(self, where: Where, url: str, *, name: str, version: str) -> None:
        told = {"modelyard.model": name, "modelyard.version": version}
        self._exporter = Exporter(where, url, service=_SERVICE, attributes=told)
        self._record, self._ids = self._exporter.record, Ids(SystemRandom())
        # For what the model makes, or says of the span that is current while it runs.
        self._given = GivenIds()
        self._provider = TracerProvider(
            resource=resource_of(_SERVICE, told), id_generator=self._given
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(_make_exporter(where, url), schedule_delay_millis=_EVERY_MS)
        )
        trace.set_tracer_provider(self._provider)
        self._tracer = self._provider.get_tracer(SCOPE)

    def of(self, model: Predictor) -> Predictor:
        """Return a model whose calls are spans."""
        kind = _AsyncTraced if inspect.iscoroutinefunction(model.predict) else _Traced
        return kind(model, self)

    def batch(self, origins: Sequence[Origin]) -> AbstractContextManager[None]:
        """Record what the block does for the requests that are traced."""
        found = [parent_of(origin.trail.trace) for origin in origins if origin.trail.since]
        parents = [parent.context for parent in found if parent is not None]
        return self._record_batch(parents) if parents else contextlib.nullcontext()

    @contextlib.contextmanager
    def _record_batch(self, parents: Sequence[Context]) -> Iterator[None]:
        first, *others = parents
        running = _Running(Context(first.trace_id, self._ids.span()))
        began, error = time.time(), ""
        token = _running.set(running)
        try:
            yield
        except BaseException as raised:
            error = f"{type(raised).__name__}: {raised}"
            raise
        finally:
            _running.reset(token)
            ended, links = time.time(), tuple(others)
            parent_id = first.span_id
            self._record(
                Span("run", running.run, parent_id, began, ended, links=links, error=error)
            )
        for other in others:
            self._repeat(other, first, (began, ended), running.predicted)

    def predict(self, count: int) -> AbstractContextManager[None]:
        """Record a call of the model, if one of its requests is traced."""
        running = _running.get()
        return contextlib.nullcontext() if running is None else self._record_call(running, count)

    @contextlib.contextmanager
    def _record_call(self, running: _Running, count: int) -> Iterator[None]:
        told: dict[str, Value] = {"modelyard.batch.instances": count}
        own, began = Context(running.run.trace_id, self._ids.span()), time.time()

        def make() -> trace.Span:
            within = trace.set_span_in_context(NonRecordingSpan(_context_of(running.run)))
            self._given.give(int(own.span_id, 16))
            at = int(began * 1e9)
            return self._tracer.start_span("predict", within, attributes=told, start_time=at)

        current = LazySpan(_context_of(own), make)
        token = context.attach(trace.set_span_in_context(current))
        try:
            yield
        except BaseException as raised:
            current.record_exception(raised)
            current.set_status(StatusCode.ERROR, f"{type(raised).__name__}: {raised}")
            raise
        finally:
            context.detach(token)
            ended = time.time()
            running.predicted.append((began, ended))
            if current.made is not None:
                current.made.end()
            else:
                parent_id = running.run.span_id
                self._record(Span("predict", own, parent_id, began, ended, attributes=told))

    def close(self) -> None:
        """Send what waits."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        self._exporter.close()
        closing.join(CLOSING_S)  # longer only if the collector is away

    def _repeat(
        self,
        parent: Context,
        first: Context,
        ran: tuple[float, float],
        predicted: Sequence[tuple[float, float]],
    ) -> None:
        """Record the same for another request of the batch."""
        run = Context(parent.trace_id, self._ids.span())
        for began, ended in predicted:
            own = Context(parent.trace_id, self._ids.span())
            self._record(Span("predict", own, run.span_id, began, ended))
        self._record(Span("run", run, parent.span_id, *ran, links=(first,)))


def _context_of(span: Context) -> SpanContext:
    return SpanContext(
        int(span.trace_id, 16),
        int(span.span_id, 16),
        is_remote=False,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )


def _ours(span: ReadableSpan) -> Span:
    own, parent = span.get_span_context(), span.parent
    assert own is not None
    return Span(
        span.name,
        Context(f"{own.trace_id:032x}", f"{own.span_id:016x}"),
        "" if parent is None else f"{parent.span_id:016x}",
        (span.start_time or 0) / 1e9,
        (span.end_time or 0) / 1e9,
        error="" if span.status.is_ok else span.status.description or "error",
    )


def _make_exporter(where: Where, url: str) -> SpanExporter:
    if where == "console":
        return ConsoleSpanExporter(out=sys.stderr, formatter=lambda span: line_of(_ours(span)))
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    # A collector that is away is said once, and by the exporter of our own spans.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    return OTLPSpanExporter(endpoint=f"{url.rstrip('/')}/v1/traces" if url else None)


class _Traced:
    """A model whose calls are spans."""

    def __init__(self, model: Predictor, spans: RunnerSpans) -> None:
        self._model = model
        self._spans = spans

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def predict(self, instances: Any) -> Any:
        with self._spans.predict(len(instances)):
            return self._model.predict(instances)


class _AsyncTraced(_Traced):
    """The same of a model that waits."""

    async def predict(self, instances: Any) -> Any:
        with self._spans.predict(len(instances)):
            return await self._model.predict(instances)
