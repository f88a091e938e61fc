"""What the overview shows: each version of each model in a row, and their sum."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

from modelyard.console.figures import duration, share, sparkline
from modelyard.console.interfaces import Sources
from modelyard.core.messages import Announcement
from modelyard.core.names import Target, version_order
from modelyard.dispatch.catalog import Catalog
from modelyard.dispatch.entry import Entry
from modelyard.gateway.routes import Workers
from modelyard.telemetry.history import View, Window
from modelyard.telemetry.prometheus import Columns

NOW_S, LATELY_S = 60.0, 300.0
"""Rates are of the last minute, latencies and errors of the last five."""
SPARK_POINTS, SPARK_HEIGHT = 30, 20
PLOT_POINTS = 120
TOO_MANY_ERRORS = 0.01
TROUBLES = {
    "no broker": "This gateway does not reach its broker, and so no worker. Requests wait for it, "
    "until their deadlines. See the setting amqp_url, and the log of RabbitMQ.",
    "no catalog yet": "This gateway has reached its broker, and has not heard yet which models "
    "workers have.",
}
"""By the status of the gateway's readiness: what is said above all figures."""
_WORST_FIRST = ("failed", "recovering", "starting", "stopped", "asleep", "ready")


class Served(NamedTuple):
    """A target as the catalog has it now: read on the event loop, shown from a thread."""

    target: Target
    known: Announcement
    in_flight: int
    is_default: bool
    queued: int | None


class Row(NamedTuple):
    """One row.

    Attributes:
        served: The target.
        rate: Requests per second.
        p50: Seconds, as ``p99``; None if nothing was answered.
        errors: Share of requests that failed.
        hits: Share of cacheable requests that the cache answered.
        spark: The last hour's rate, as points of a line, which are ``spark_width`` wide.
    """

    served: Served
    rate: float
    p50: float | None
    p99: float | None
    errors: float | None
    hits: float | None
    spark: str
    spark_width: int


class Sums(NamedTuple):
    """All rows together."""

    models: int
    targets: int
    serving: int
    rate: float
    p50: float | None
    p99: float | None
    errors: float | None
    hits: float | None
    in_flight: int
    queued: int | None


class Notice(NamedTuple):
    """Something to look at: what, where, and how bad it is."""

    target: Target
    kind: str
    text: str


Key = Callable[[Row], tuple[object, ...]]


def _of(value: float | None) -> float:
    return -1.0 if value is None else value


SORTS: dict[str, Key] = {
    "name": lambda row: (row.served.target.name, version_order(row.served.target.version)),
    "state": lambda row: (-_WORST_FIRST.index(row.served.known.state),),
    "rate": lambda row: (row.rate,),
    "p50": lambda row: (_of(row.p50),),
    "p99": lambda row: (_of(row.p99),),
    "errors": lambda row: (_of(row.errors),),
    "queue": lambda row: (row.served.in_flight + (row.served.queued or 0),),
    "runners": lambda row: (row.served.known.runners_ready,),
    "hits": lambda row: (_of(row.hits),),
}
"""By column; all but the name begin with the largest."""


def served(entry: Entry, catalog: Catalog, workers: Workers | None) -> Served:
    """Return what is known of a target now."""
    return Served(
        entry.target,
        entry.announcement,
        entry.in_flight,
        catalog.is_default(entry),
        workers.queued(entry.target) if workers else None,
    )


def row_of(one: Served, view: View) -> Row:
    """Return a target's row."""
    now, lately = (view.window([one.target], seconds) for seconds in (NOW_S, LATELY_S))
    rates = view.rates(one.target, points=SPARK_POINTS)
    return Row(
        served=one,
        rate=now.rate,
        p50=lately.quantile(0.5),
        p99=lately.quantile(0.99),
        errors=lately.errors,
        hits=lately.hits,
        spark=sparkline(rates, height=SPARK_HEIGHT),
        spark_width=max(1, len(rates) - 1),
    )


def chosen(rows: Iterable[Row], *, sort: str, wanted: str) -> list[Row]:
    """Return the rows whose name or state has ``wanted`` in it, in an order."""
    found = (row for row in rows if wanted in f"{row.served.target} {row.served.known.state}")
    key = SORTS.get(sort, SORTS["name"])
    return sorted(found, key=key, reverse=key is not SORTS["name"])


def sums_of(all_: Sequence[Served], view: View) -> Sums:
    """Return the sum of all targets."""
    targets = [one.target for one in all_]
    now, lately = (view.window(targets, seconds) for seconds in (NOW_S, LATELY_S))
    queued = [one.queued for one in all_ if one.queued is not None]
    return Sums(
        models=len({target.name for target in targets}),
        targets=len(targets),
        serving=sum(one.known.state in ("ready", "asleep") for one in all_),
        rate=now.rate,
        p50=lately.quantile(0.5),
        p99=lately.quantile(0.99),
        errors=lately.errors,
        hits=lately.hits,
        in_flight=sum(one.in_flight for one in all_),
        queued=sum(queued) if queued else None,
    )


def notices_of(rows: Iterable[Row], *, most: int = 4) -> list[Notice]:
    """Return what to look at first: what does not serve, what fails, what is slowest."""
    rows = list(rows)
    found = [
        Notice(row.served.target, "failed", row.served.known.reason or "it does not serve")
        for row in rows
        if row.served.known.state == "failed"
    ]
    failing = [row for row in rows if _of(row.errors) >= TOO_MANY_ERRORS]
    failing.sort(key=SORTS["errors"], reverse=True)
    found += [Notice(row.served.target, "errors", f"{share(row.errors)} fail") for row in failing]
    slow = max(rows, key=SORTS["p99"], default=None)
    if slow is not None and slow.p99 is not None:
        text = f"p99 {duration(slow.p99)}"
        found = [*found[: most - 1], Notice(slow.served.target, "slowest", text)]
    return found[:most]


def columns_of(sources: Sources, view: View, targets: Collection[Target]) -> Columns:
    """Return the last hour of some targets for a plot: Prometheus' where there is one."""
    if sources.prometheus is not None and targets:
        found = sources.prometheus.columns(targets)
        if found is not None:
            return found
    columns: Columns = {name: [] for name in ("at", "rate", "failed", "p50", "p99")}
    for window in view.series(targets, points=PLOT_POINTS):
        columns["at"].append(window.at)
        for name, value in _values(window).items():
            columns[name].append(None if value is None else round(value, 6))
    return columns


def _values(window: Window) -> dict[str, float | None]:
    return {
        "rate": window.rate,
        "failed": window.failed / window.seconds if window.seconds else 0.0,
        "p50": window.quantile(0.5),
        "p99": window.quantile(0.99),
    }
