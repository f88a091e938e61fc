"""From the settings to what makes and sends the spans of a process."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING

from modelyard.core.names import Target
from modelyard.core.spans import Ids
from modelyard.pool.spans import PoolSpans
from modelyard.settings import Settings, SettingsError

if TYPE_CHECKING:
    from modelyard.gateway.traced import RequestSpans
    from modelyard.telemetry.metrics import Metrics
    from modelyard.tracing.exporting import Exporter

MISSING = (
    "traces are set, and OpenTelemetry is not installed: pip install 'modelyard[traces]', or unset "
    "traces (MODELYARD_TRACES)"
)


class Traces:
    """What makes the spans of one process; see ``open_traces``."""

    def __init__(self, settings: Settings, exporter: Exporter) -> None:
        self._settings = settings
        self._record = exporter.record
        self._chance = Random()

    def of_requests(self, metrics: Metrics) -> RequestSpans:
        """Return what decides which requests are traced; ``metrics``: of the process."""
        from modelyard.gateway.traced import RequestSpans

        return RequestSpans(
            self._record,
            metrics,
            rate=self._settings.traces_rate,
            slow_s=self._settings.traces_slow_s,
            chance=self._chance,
            wall_clock=time.time,
        )

    def of_pool(self, target: Target, *, has_queue: bool) -> PoolSpans:
        """Return what makes the spans of a pool."""
        return PoolSpans(
            target,
            self._record,
            ids=Ids(self._chance),
            clock=time.monotonic,
            wall_offset=lambda: time.time() - time.monotonic(),
            has_queue=has_queue,
        )


@contextlib.contextmanager
def open_traces(settings: Settings, service: str) -> Iterator[Traces | None]:
    """Give what makes the spans of a process, as long as the block; None if traces are off.

    ``service``: the name of the process in traces, as ``modelyard-gateway``.

    Raises:
        SettingsError: They are on, and OpenTelemetry is not installed.
    """
    if settings.traces == "off":
        yield None
        return
    try:
        from modelyard.tracing.exporting import Exporter
    except ImportError:
        raise SettingsError(MISSING) from None
    attributes = {"service.instance.id": f"{socket.gethostname()}-{time.time_ns():x}"}
    try:
        exporter = Exporter(
            settings.traces, settings.traces_url, service=service, attributes=attributes
        )
    except ValueError as error:
        raise SettingsError(f"OTEL_EXPORTER_OTLP_TIMEOUT: {error}") from None
    try:
        yield Traces(settings, exporter)
    finally:
        exporter.close()
