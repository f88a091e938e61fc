"""The current span while a traced model runs.

Hardly any model touches it, and one of OpenTelemetry's own costs more than all others of a trace
together. So it is made when the model adds something to it, or fails.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Span, SpanContext, Status, StatusCode
from opentelemetry.util.types import Attributes, AttributeValue


class LazySpan(Span):
    """A span that is made when something is said of it.

    Args:
        context: Its ids.
        make: Makes it.

    Attributes:
        made: What was made; None if nothing was said.
    """

    def __init__(self, context: SpanContext, make: Callable[[], Span]) -> None:
        self._context = context
        self._make = make
        self.made: Span | None = None

    def _real(self) -> Span:
        self.made = self.made or self._make()
        return self.made

    def get_span_context(self) -> SpanContext:
        """See ``Span``."""
        return self._context

    def is_recording(self) -> bool:
        """See ``Span``."""
        return True

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        """See ``Span``."""
        self._real().set_attributes(attributes)

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        """See ``Span``."""
        self._real().set_attribute(key, value)

    def add_event(
        self, name: str, attributes: Attributes = None, timestamp: int | None = None
    ) -> None:
        """See ``Span``."""
        self._real().add_event(name, attributes, timestamp)

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        """See ``Span``."""
        self._real().add_link(context, attributes)

    def update_name(self, name: str) -> None:
        """See ``Span``."""
        self._real().update_name(name)

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """See ``Span``."""
        self._real().set_status(status, description)

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """See ``Span``."""
        self._real().record_exception(exception, attributes, timestamp, escaped)

    def end(self, end_time: int | None = None) -> None:
        """Do nothing: the runner ends it."""


class GivenIds(RandomIdGenerator):
    """Draws ids, but for the next span of a thread that is given its own."""

    def __init__(self) -> None:
        self._here = threading.local()

    def give(self, span_id: int) -> None:
        """Set the id of this thread's next span."""
        self._here.span_id = span_id

    def generate_span_id(self) -> int:
        """See ``IdGenerator``."""
        given: int = getattr(self._here, "span_id", 0)
        self._here.span_id = 0
        return given or super().generate_span_id()
