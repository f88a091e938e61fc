"""What V1 and V2 answer, as FastAPI documents it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class ErrorAnswer(BaseModel):
    """What went wrong."""

    error: str


class Server(BaseModel):
    """What this server is, and what it offers beside the protocol itself."""

    name: str
    version: str
    extensions: list[str]


class Live(BaseModel):
    """The process is alive."""

    live: bool


class Ready(Live):
    """Whether requests should come here."""

    ready: bool


class ModelReady(BaseModel):
    """A model takes requests."""

    name: str
    ready: bool


class Models(BaseModel):
    """The names of all models."""

    models: list[str]


class TensorMetadata(BaseModel):
    """One input or output."""

    name: str
    datatype: str
    shape: list[int] = Field(description="-1 is the batch: as many as there are instances")
    parameters: dict[str, Any] | None = Field(
        default=None,
        description="`optional`: it may be left out. `content_type` application/json: each element "
        "is a JSON document",
    )


class ModelMetadata(BaseModel):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class IndexQuestion(BaseModel):
    """Which models are asked for."""

    ready: bool = Field(default=False, description="those alone that take requests")


class IndexEntry(BaseModel):
    """One version of a model."""

    name: str
    version: str
    state: str = Field(description="READY, LOADING or UNAVAILABLE")
    reason: str


class ModelStatistics(BaseModel):
    """Triton's statistics of each version, since this process began."""

    model_stats: list[dict[str, Any]]


class ListedModel(BaseModel):
    """A model, as OpenAI's clients read it."""

    id: str
    object: str = "model"
    created: int = Field(default=0, description="not known")
    owned_by: str = "modelyard"


class ModelsList(Models):
    """All models: `models` for KServe's clients, `object` and `data` for OpenAI's."""

    object: str = "list"
    data: list[ListedModel]


class ModelStatus(ListedModel, ModelReady):
    """A model that takes requests."""
