"""The spans of a runner: what it did for the traced requests of a batch. Only where traces are on.

The span of the first of them is the current one while the model runs, so what the model makes with
OpenTelemetry itself becomes part of that trace.
"""

from __future__ import annotations

import contextlib
import inspect
import time
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Link, NonRecordingSpan, Span

from modelyard.core.messages import Origin
from modelyard.core.spans import Context, parent_of
from modelyard.runner.run import Predictor
from modelyard.tracing.exporting import SCOPE, Where, context_of, make_processor, make_resource

_Times = tuple[int, int]
"""From when until when, in nanoseconds of Unix time."""

_predicted: ContextVar[list[_Times] | None] = ContextVar("predicted", default=None)
"""The calls of the model in the running batch, if it is traced."""


class RunnerSpans:
    """Records what a runner does for traced requests.

    Args:
        where, url: See ``tracing/exporting.py``.
        name: Of the model.
        version: Of the model.
    """

    def __init__(self, where: Where, url: str, *, name: str, version: str) -> None:
        told = {"modelyard.model": name, "modelyard.version": version}
        self._provider = TracerProvider(resource=make_resource("modelyard-runner", told))
        self._provider.add_span_processor(make_processor(where, url))
        trace.set_tracer_provider(self._provider)  # for spans of the model's own
        self._tracer = self._provider.get_tracer(SCOPE)

    def of(self, model: Predictor) -> Predictor:
        """Return a model whose calls are spans."""
        kind = _AsyncTraced if inspect.iscoroutinefunction(model.predict) else _Traced
        return kind(model, self)

    @contextlib.contextmanager
    def batch(self, origins: Sequence[Origin]) -> Iterator[None]:
        """Record what the block does for the requests that are traced."""
        found = [parent_of(origin.trail.trace) for origin in origins if origin.trail.since]
        parents = [parent.context for parent in found if parent is not None]
        if not parents:
            yield
            return
        first, *others = parents
        began, predicted = time.time_ns(), list[_Times]()
        token = _predicted.set(predicted)
        run = self._start("run", first, others, began)
        try:
            with trace.use_span(run, end_on_exit=True):
                yield
        finally:
            _predicted.reset(token)
        ended = time.time_ns()
        for other in others:
            self._repeat(other, first, (began, ended), predicted)

    @contextlib.contextmanager
    def predict(self, count: int) -> Iterator[None]:
        """Record a call of the model, if one of its requests is traced."""
        predicted = _predicted.get()
        if predicted is None:
            yield
            return
        began = time.time_ns()
        told = {"modelyard.batch.instances": count}
        try:
            with self._tracer.start_as_current_span("predict", attributes=told, start_time=began):
                yield
        finally:
            predicted.append((began, time.time_ns()))

    def close(self) -> None:
        """Send what waits."""
        self._provider.shutdown()

    def _repeat(
        self, parent: Context, first: Context, ran: _Times, predicted: Sequence[_Times]
    ) -> None:
        """Record the same for another request of the batch."""
        run = self._start("run", parent, [first], ran[0])
        within = trace.set_span_in_context(run)
        for began, ended in predicted:
            self._tracer.start_span("predict", within, start_time=began).end(ended)
        run.end(ran[1])

    def _start(self, name: str, parent: Context, others: Sequence[Context], began: int) -> Span:
        within = trace.set_span_in_context(NonRecordingSpan(context_of(parent)))
        links = [Link(context_of(other)) for other in others]
        return self._tracer.start_span(name, within, links=links, start_time=began)


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
