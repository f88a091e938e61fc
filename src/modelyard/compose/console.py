"""Puts the console together: its pages, and where they have their facts from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from modelyard import __version__
from modelyard.access.usage import DayOfUsage, UsageBook
from modelyard.compose.access import OpenGate
from modelyard.console.interfaces import Act, Predictions, Release, Sources
from modelyard.core.errors import Unavailable
from modelyard.core.routes import Route
from modelyard.core.verdict import Verdict
from modelyard.dispatch.catalog import Catalog
from modelyard.settings import Settings
from modelyard.store.errors import StoreError
from modelyard.telemetry.faults import Faults
from modelyard.telemetry.history import History
from modelyard.telemetry.metrics import Metrics
from modelyard.telemetry.prometheus import Prometheus

if TYPE_CHECKING:
    from modelyard.compose.jobs import OpenJobs
    from modelyard.gateway.guard import Refuse
    from modelyard.gateway.registry_pages import Routes
    from modelyard.gateway.routes import Workers
    from modelyard.store.routes import RouteStore, StoredRoute
    from modelyard.store.usage import UsageStore

_LIBRARIES = ("sqlalchemy", "alembic")
T = TypeVar("T")


class Console(NamedTuple):
    """The routes, and what makes pages of errors there, and does as something else elsewhere."""

    routes: Routes
    refusing: Callable[[Refuse], Refuse]


def make_console(
    settings: Settings,
    *,
    catalog: Catalog,
    metrics: Metrics,
    history: History,
    faults: Faults,
    workers: Workers | None,
    predictions: Predictions,
    opened: OpenGate | None,
    jobs: OpenJobs | None,
    may_change: bool,
    verdict: Callable[[], Verdict],
) -> Console | None:
    """Return the console of a gateway; None if the settings want none.

    Args:
        settings: The settings.
        catalog: The targets.
        metrics: Those of the process.
        history: What was kept of them.
        faults: What this process's pools logged.
        workers: Tells of the workers; None in the embedded shape.
        predictions: Answers what is tried.
        opened: Says who may ask; None if everybody may.
        jobs: Are kept and run here; None if there is no store for them.
        may_change: Whether callers may change something.
        verdict: The readiness of the process.
    """
    if not settings.console:
        return None
    from modelyard.console.pages import make_console as make_routes
    from modelyard.console.refusals import Refusals
    from modelyard.console.rendering import Rendering

    rendering = Rendering(
        version=__version__,
        is_guarded=opened is not None,
        may_change=may_change,
        plots_all=bool(settings.prometheus_url),
        has_jobs=jobs is not None,
    )
    refusals = Refusals(rendering)
    has_store = all(map(find_spec, _LIBRARIES))
    book = None if opened is None else opened.book
    url = settings.prometheus_url
    sources = Sources(
        version=__version__,
        catalog=catalog,
        history=history,
        readings=metrics.readings,
        prometheus=Prometheus(url, wall_clock=time.time) if url else None,
        faults=faults,
        workers=workers,
        predictions=predictions,
        releases=StoredReleases(settings) if has_store else None,
        usage=None if book is None else KeptUsage(book),
        jobs=None if jobs is None else jobs.desk,
        bulk=None if jobs is None or jobs.bulk is None else jobs.bulk.desk,
        verdict=verdict,
        drift=metrics.payloads.window_of,
        payloads=metrics.payloads if settings.payload_log_file else None,
        broker_events=metrics.broker_events,
        gate=None if opened is None else opened.gate,
        accounts=None if opened is None else opened.accounts,
        may_change=may_change,
        wall_clock=time.time,
    )
    return Console(make_routes(sources, rendering, refusals), refusals.around)


@contextmanager
def _telling() -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        raise Unavailable(f"the store does not answer: {error}") from error


class KeptUsage:
    """See ``console.interfaces.Usage``."""

    def __init__(self, book: UsageBook) -> None:
        self._book = book

    def read(self, first: str, last: str) -> Sequence[DayOfUsage]:
        """See ``Usage``."""
        with _telling():
            return self._book.read(first, last)


class StoredReleases:
    """See ``console.interfaces.Releases``. The store is opened when somebody first looks; SQLite of
    this machine is made with the first change, as the command line does.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._opened: tuple[RouteStore, UsageStore] | None = None
        self._lock = Lock()

    def all(self) -> list[Release]:
        """See ``Releases``."""
        return self._read(lambda routes, _: list(map(_release, routes.all())), [])

    def find(self, model: str) -> Release:
        """See ``Releases``."""
        return self._read(lambda routes, _: _release(routes.find(model)), Release(model))

    def acts(self, model: str, most: int) -> list[Act]:
        """See ``Releases``."""

        def read(_: RouteStore, usage: UsageStore) -> list[Act]:
            found = usage.last_acts(model, most)
            return [Act(*(value or "" for value in act)) for act in found]  # type: ignore[arg-type]

        return self._read(read, [])

    def change(self, was: Release, route: Route | None, *, actor: str, why: str) -> None:
        """See ``Releases``."""
        from modelyard.store.routes import StoredRoute

        with _telling():
            routes, _ = self._open(makes=True)
            kept = StoredRoute(was.model, was.number, was.route, was.before)
            routes.change([(kept, route)], actor=actor, why=why)

    def _read(self, read: Callable[[RouteStore, UsageStore], T], nothing: T) -> T:
        if self._opened is None and not self._settings.has_store:
            return nothing
        with _telling():
            return read(*self._open())

    def _open(self, *, makes: bool = False) -> tuple[RouteStore, UsageStore]:
        from modelyard.store import schema
        from modelyard.store.routes import RouteStore
        from modelyard.store.usage import UsageStore

        with self._lock:
            if self._opened is None:
                engine = schema.open_engine(self._settings.store_url)
                if makes and not self._settings.database_url:
                    schema.make_if_missing(engine)
                schema.check_revision(engine)
                routes = RouteStore(engine, wall_clock=time.time)
                self._opened = routes, UsageStore(engine)
            return self._opened


def _release(found: StoredRoute) -> Release:
    return Release(found.model, found.number, found.route, found.before)
