"""What the pages depend on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from modelyard.access.accounts import Accounts
from modelyard.access.gate import Gate
from modelyard.access.usage import DayOfUsage
from modelyard.core.names import Target
from modelyard.core.routes import Route
from modelyard.core.verdict import Verdict
from modelyard.dispatch.catalog import Catalog
from modelyard.gateway.heads import Plan
from modelyard.gateway.known import Given
from modelyard.gateway.preparing import Predicting
from modelyard.gateway.routes import Workers
from modelyard.gateway.types import Respond
from modelyard.jobs.bulk.desk import BulkDesk
from modelyard.jobs.desk import Desk
from modelyard.telemetry.faults import Faults
from modelyard.telemetry.history import History
from modelyard.telemetry.payloads import Compared
from modelyard.telemetry.prometheus import Prometheus
from modelyard.telemetry.readings import Readings


class Release(NamedTuple):
    """A model's route as the store has it.

    Attributes:
        model: Name of the model.
        number: Grows with each change; 0 if there was none.
        route: None if requests go to the default version.
        before: What a rollback brings back.
    """

    model: str
    number: int = 0
    route: Route | None = None
    before: Route | None = None


class Act(NamedTuple):
    """What somebody did, as the audit has it; ``at``: Unix time, in seconds."""

    at: float
    actor: str
    action: str
    subject: str
    what: str
    was: str
    why: str


class Releases(Protocol):
    """Routes, and what was done. All methods may block."""

    def all(self) -> Sequence[Release]:
        """Return the routes of all models that ever had one.

        Raises:
            Unavailable: The store is away.
        """
        ...

    def find(self, model: str) -> Release:
        """Return a model's route.

        Raises:
            Unavailable: The store is away.
        """
        ...

    def change(self, was: Release, route: Route | None, *, actor: str, why: str) -> None:
        """Replace a route that is still what it was.

        Raises:
            Conflict: It is not: somebody else has changed it.
            Unavailable: The store is away.
        """
        ...

    def acts(self, model: str, most: int) -> Sequence[Act]:
        """Return what was done to a model, the newest first.

        Raises:
            Unavailable: The store is away.
        """
        ...


class Usage(Protocol):
    """What callers have used. May block."""

    def read(self, first: str, last: str) -> Sequence[DayOfUsage]:
        """Return the usage from one day to another, as ``2026-01-31``.

        Raises:
            Unavailable: The store is away.
        """
        ...


class Payloads(Protocol):
    """Tells of the payload log; see ``PayloadMetrics``."""

    @property
    def is_failing(self) -> bool:
        """Whether nothing can be kept at the moment."""
        ...

    def records(self) -> Mapping[str, float]:
        """Return how many requests were kept, or dropped, and why."""
        ...


class Predictions(Protocol):
    """Answers predictions; see ``PredictEndpoint``."""

    def begin(
        self,
        plan: Plan,
        body: bytes,
        respond: Respond,
        *,
        given: Given | None,
        host: str = "",
    ) -> Predicting | None:
        """Begin to answer."""
        ...


class Sources(NamedTuple):
    """Where the pages have everything from.

    Attributes:
        version: Of Modelyard.
        catalog: The targets.
        history: The last hour of this gateway.
        readings: Its counters.
        prometheus: Has the last hour of all gateways; None if there is none.
        faults: What its own pools logged.
        workers: Tells of the workers; None in the embedded shape.
        predictions: Answers what is tried.
        releases: Routes; None where there can be none.
        usage: What was used; None if nobody keeps it.
        jobs: Tells of jobs; None where none are kept.
        bulk: Tells of those that are bulk runs; None where there are none.
        verdict: The readiness of this gateway.
        drift: The last window of a target that was compared with its reference; None for none.
        payloads: What has become of the payload log; None if there is none.
        broker_events: How often what happened between gateway and broker.
        gate: Says who may ask; None if everybody may.
        accounts: Of callers; None likewise.
        may_change: Whether callers may change something: they are known, or on this machine.
        wall_clock: Unix time, in seconds.
    """

    version: str
    catalog: Catalog
    history: History
    readings: Readings
    prometheus: Prometheus | None
    faults: Faults
    workers: Workers | None
    predictions: Predictions
    releases: Releases | None
    usage: Usage | None
    jobs: Desk | None
    bulk: BulkDesk | None
    verdict: Callable[[], Verdict]
    drift: Callable[[Target], Compared | None]
    payloads: Payloads | None
    broker_events: Callable[[], Mapping[str, float]]
    gate: Gate | None
    accounts: Accounts | None
    may_change: bool
    wall_clock: Callable[[], float]
