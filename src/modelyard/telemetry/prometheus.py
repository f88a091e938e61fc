"""The last hour as a Prometheus has it: of all gateways and workers that it scrapes.

It is asked from threads. One that does not answer is left alone for a while, so that no page waits
for it again and again.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from math import isfinite
from typing import Any, NamedTuple
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import msgspec

from modelyard.core.clock import Clock
from modelyard.core.names import Target

HOUR_S, STEP_S = 3600, 30
PATIENCE_S = 3.0
LEFT_ALONE_S = 30.0
_OVER = "2m"  # of a rate in a series: longer than two scrapes
_LATELY = "5m"

log = logging.getLogger(__name__)

Columns = dict[str, list[float | None]]
"""Values by line, and under ``at`` their times, as Unix times in seconds."""


class Lately(NamedTuple):
    """What was measured of a target in the last minutes; see ``history.Window``. None: nothing."""

    rate: float | None
    queue_s: float | None
    model_s: float | None
    batch_size: float | None
    mean_s: float | None


class _Series(msgspec.Struct):
    values: list[tuple[float, str]] = []
    value: tuple[float, str] | None = None


class _Data(msgspec.Struct):
    result: list[_Series]


class _Answer(msgspec.Struct):
    data: _Data


class Prometheus:
    """Asks a Prometheus.

    Args:
        url: Its address.
        wall_clock: Unix time, in seconds.
    """

    def __init__(self, url: str, *, wall_clock: Clock) -> None:
        self._url = url.rstrip("/")
        self._wall_clock = wall_clock
        self._silent_until = 0.0

    def columns(self, targets: Collection[Target]) -> Columns | None:
        """Return the last hour of some targets together, with the lines of ``_lines``; None if
        Prometheus does not answer, or has nothing of them.
        """
        end = int(self._wall_clock())
        times = [float(at) for at in range(end - HOUR_S, end + 1, STEP_S)]
        span = {"start": times[0], "end": times[-1], "step": STEP_S}
        found: Columns = {"at": list(times)}
        for name, query in _lines(_selector(targets)).items():
            answer = self._ask("query_range", {"query": query, **span})
            if answer is None:
                return None
            values = {at: _number(text) for one in answer for at, text in one.values}
            found[name] = [values.get(at) for at in times]
        is_empty = not any(value is not None for value in found["rate"])
        return None if is_empty else found

    def lately(self, target: Target) -> Lately | None:
        """Return what was measured of a target lately; None if Prometheus does not answer."""
        found = []
        for query in _means(_selector([target])):
            answer = self._ask("query", {"query": query})
            if answer is None:
                return None
            value = answer[0].value if answer else None
            found.append(None if value is None else _number(value[1]))
        return Lately(*found)

    def _ask(self, what: str, fields: Mapping[str, Any]) -> list[_Series] | None:
        now = self._wall_clock()
        if now < self._silent_until:
            return None
        body = urlencode(fields).encode()
        request = Request(f"{self._url}/api/v1/{what}", body)  # noqa: S310 - the operator names it
        try:
            with urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310
                return msgspec.json.decode(answer.read(), type=_Answer).data.result
        except (URLError, OSError, ValueError) as error:  # msgspec's are ValueErrors
            self._silent_until = now + LEFT_ALONE_S
            log.warning("prometheus_not_asked", extra={"url": self._url, "why": str(error)})
            return None


def _selector(targets: Collection[Target]) -> str:
    """Return what chooses targets. Names have no letters that mean something there but dots."""
    names, versions = (
        "|".join(sorted({part.replace(".", r"\\.") for part in parts}))
        for parts in zip(*((t.name, t.version) for t in targets), strict=True)
    )
    return f'{{model=~"{names}",version=~"{versions}"}}'


def _lines(of: str) -> dict[str, str]:
    rate = f"rate(modelyard_request_seconds_bucket{of}[{_OVER}])"
    failed = of.replace("}", ',code!="ok"}')
    return {
        "rate": f"sum(rate(modelyard_requests_total{of}[{_OVER}]))",
        "failed": f"sum(rate(modelyard_requests_total{failed}[{_OVER}]))",
        "p50": f"histogram_quantile(0.5, sum by (le) ({rate}))",
        "p99": f"histogram_quantile(0.99, sum by (le) ({rate}))",
    }


def _means(of: str) -> list[str]:
    def summed(name: str) -> str:
        return f"sum(rate(modelyard_{name}{of}[{_LATELY}]))"

    ran = summed("queue_wait_seconds_count")
    return [
        summed("requests_total"),
        f"{summed('queue_wait_seconds_sum')} / {ran}",
        f"{summed('model_seconds_sum')} / {summed('model_seconds_count')}",
        f"{summed('batch_size_sum')} / {summed('batch_size_count')}",
        f"{summed('request_seconds_sum')} / {ran}",
    ]


def _number(text: str) -> float | None:
    value = float(text)  # NaN where nothing was asked
    return value if isfinite(value) else None
