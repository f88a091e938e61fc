"""What ``GET /models`` and the probes answer, as FastAPI documents it."""

from __future__ import annotations

from typing import Any

import msgspec
from pydantic import BaseModel, Field

from modelyard.dispatch.catalog import Catalog, Entry


class Health(BaseModel):
    """The process is alive."""

    status: str = "ok"


class Readiness(BaseModel):
    """Whether requests should come here, and the state of every target."""

    status: str = Field(
        description="ready; degraded: ready, but some model has failed; else why not",
        examples=["degraded"],
    )
    models: dict[str, str] = Field(
        description="the state of each, and the reason where there is one",
        examples=[{"fast_iris_model/1": "ready", "sentiment/2": "failed: no such file"}],
    )


class Capacity(BaseModel):
    """What serves a version now."""

    workers: int = Field(description="processes that serve it; 1 in the embedded shape")
    runners: int
    runners_ready: int
    queued: int | None = Field(description="bundles that wait in the broker, if there is one")
    max_batch_size: int = Field(description="instances")
    in_flight: int = Field(description="requests under way in this gateway")
    max_in_flight: int = Field(description="over it: 503")


class Version(BaseModel):
    """One version of a model."""

    version: str
    state: str = Field(description="starting, ready, recovering, failed, stopped or asleep")
    is_default: bool
    reason: str = Field(description="why it is not ready")
    description: str
    digest: str = Field(description="of the model folder: manifest, code and artefacts")
    timeout_s: float
    cache_ttl_s: float
    capacity: Capacity


class VersionDetails(Version):
    """One version with what it takes and gives, as JSON Schema, once it has been loaded."""

    input_schema: dict[str, Any] | None
    output_schema: dict[str, Any] | None
    example: Any | None


class Question(BaseModel):
    """What ``POST /predict`` takes."""

    model_name: str
    input_data: list[Any]


class Links(BaseModel):
    """What this is, and where to go on."""

    name: str = "Modelyard"
    version: str
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
    versions: list[VersionDetails]


class ModelList(BaseModel):
    """All models, by name."""

    models: list[ModelSummary]


def summary_of(entry: Entry, catalog: Catalog) -> dict[str, Any]:
    """Give the fields of a ``Version``."""
    known = entry.announcement
    return {
        "version": entry.target.version,
        "state": known.state,
        "is_default": catalog.is_default(entry),
        "reason": known.reason,
        "description": known.description,
        "digest": known.digest,
        "timeout_s": known.limits.timeout_s,
        "cache_ttl_s": known.cache_ttl_s,
        "capacity": Capacity(
            workers=known.workers,
            runners=known.runners,
            runners_ready=known.runners_ready,
            queued=known.queued,
            max_batch_size=known.max_batch_size,
            in_flight=entry.in_flight,
            max_in_flight=known.limits.max_in_flight,
        ),
    }


def details_of(entry: Entry, catalog: Catalog) -> VersionDetails:
    """Give a version with its schemas."""
    schema = entry.announcement.schema
    return VersionDetails(
        **summary_of(entry, catalog),
        input_schema=msgspec.json.decode(schema.input) if schema else None,
        output_schema=msgspec.json.decode(schema.output) if schema else None,
        example=msgspec.json.decode(schema.example) if schema else None,
    )
