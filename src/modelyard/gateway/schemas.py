"""Response models of ``GET /models`` and the probes, as FastAPI documents them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from pydantic import BaseModel, Field

from modelyard.dispatch.catalog import Catalog
from modelyard.dispatch.entry import CIRCLE, Entry

if TYPE_CHECKING:
    from modelyard.gateway.routes import Workers


class Health(BaseModel):
    """The process is alive."""

    status: str = "ok"


class Readiness(BaseModel):
    """Whether requests should be sent here, and the state of every target."""

    status: str = Field(
        description="ready; degraded: ready, but some model has failed; else why not",
        examples=["degraded"],
    )
    models: dict[str, str] = Field(
        description="the state of each, and the reason where there is one",
        examples=[{"fast_iris_model/1": "ready", "sentiment/2": "failed: no such file"}],
    )


class Capacity(BaseModel):
    """Current capacity of a version."""

    workers: int = Field(description="processes that serve it; 1 in the embedded shape")
    runners: int
    runners_ready: int
    queued: int | None = Field(description="bundles that wait in the broker, if there is one")
    max_batch_size: int = Field(description="instances")
    in_flight: int = Field(description="requests in flight in this gateway")
    max_in_flight: int = Field(description="more are refused with 503")


class Worker(BaseModel):
    """One worker of a version, in a cluster."""

    name: str
    host: str = Field(description="machine or pod")
    state: str
    reason: str = Field(description="why it is not ready")
    runners: int
    runners_ready: int


class DemandAnswer(BaseModel):
    """Demand for runners, to be added up over the gateways by an autoscaler."""

    runners: float = Field(description="runners that this gateway's load needs")
    instances: int = Field(description="instances that wait or run")
    instance_s: float = Field(description="mean seconds per instance in a runner")
    target_wait_s: float = Field(description="seconds in which all of them should be done")


class Version(BaseModel):
    """One version of a model."""

    version: str
    state: str = Field(description="starting, ready, recovering, failed, stopped or asleep")
    is_default: bool = Field(description="whether it answers most requests that name no version")
    share: float = Field(description="of these requests, from 0 to 1")
    reason: str = Field(description="why it is not ready")
    reload_failed: str = Field(
        description="why the folder as it is now is not served; what answers is older"
    )
    description: str
    digest: str = Field(description="of the model folder: manifest, code and artefacts")
    timeout_s: float
    cache_ttl_s: float
    calls: list[str] = Field(description="models that it may call")
    capacity: Capacity
    workers: list[Worker] = Field(description="in a cluster; those that serve first")


class ServedVersion(Version):
    """One version with the JSON Schemas of its input and output, once it has been loaded."""

    input_schema: dict[str, Any] | None
    output_schema: dict[str, Any] | None
    example: Any | None


class Question(BaseModel):
    """The body of ``POST /predict``."""

    model_name: str
    input_data: list[Any]


class Links(BaseModel):
    """What this is, and links to the other routes."""

    name: str = "Modelyard"
    version: str
    status: str = "alive"  # KServe's V1 clients ask for it
    docs: str = "/docs"
    models: str = "/models"
    predict: str = "/predict"
    readiness: str = "/readyz"
    metrics: str = "/metrics"


class ModelSummary(BaseModel):
    """A model and its versions, the newest first."""

    name: str
    versions: list[Version]


class ModelDetails(BaseModel):
    """A model and all that is known of its versions, the newest first."""

    name: str
    versions: list[ServedVersion]


class ModelList(BaseModel):
    """All models, by name."""

    models: list[ModelSummary]


def summary_of(entry: Entry, catalog: Catalog, workers: Workers | None) -> dict[str, Any]:
    """Return the fields of a ``Version``."""
    known = entry.announcement
    return {
        "version": entry.target.version,
        "state": "failed" if entry.circle else known.state,
        "is_default": catalog.is_default(entry),
        "share": entry.share,
        "reason": CIRCLE % entry.circle if entry.circle else known.reason,
        "reload_failed": known.reload_failed,
        "description": known.description,
        "digest": known.digest,
        "timeout_s": known.limits.timeout_s,
        "cache_ttl_s": known.cache_ttl_s,
        "calls": known.calls,
        "capacity": Capacity(
            workers=known.workers,
            runners=known.runners,
            runners_ready=known.runners_ready,
            queued=workers.queued(entry.target) if workers else None,
            max_batch_size=known.max_batch_size,
            in_flight=entry.in_flight,
            max_in_flight=known.limits.max_in_flight,
        ),
        "workers": [
            Worker(**msgspec.structs.asdict(member))
            for member in (workers.members(entry.target) if workers else [])
        ],
    }


def details_of(entry: Entry, catalog: Catalog, workers: Workers | None) -> ServedVersion:
    """Return a version with its schemas."""
    schema = entry.announcement.schema
    return ServedVersion(
        **summary_of(entry, catalog, workers),
        input_schema=msgspec.json.decode(schema.input) if schema else None,
        output_schema=msgspec.json.decode(schema.output) if schema else None,
        example=msgspec.json.decode(schema.example) if schema else None,
    )
