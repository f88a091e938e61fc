"""What a gateway tells of its models. Fields that this version does not know are passed over."""

from __future__ import annotations

from typing import Any

import msgspec


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """What serves a version now.

    Attributes:
        workers: Processes that own runners.
        runners: Processes that hold the model.
        runners_ready: Those of them that can be asked.
        queued: Bundles that wait in the broker; None where there is no broker.
        in_flight: Requests in progress in the gateway that answered.
        max_in_flight: How many of them there may be; beyond it is a 503.
    """

    workers: int = 0
    runners: int = 0
    runners_ready: int = 0
    queued: int | None = None
    in_flight: int = 0
    max_in_flight: int = 0


class VersionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a model.

    Attributes:
        version: Its name.
        state: starting, ready, recovering, failed, stopped or asleep.
        is_default: Whether it answers requests that name no version.
        reason: Why it is not ready.
        description: From the model's folder.
        digest: Of the model's folder.
        timeout_s: What a request without ``timeout_s`` gets, in seconds.
        capacity: What serves it.
        input_schema: JSON Schema of the instances; only ``Client.model`` gives it, once loaded.
        output_schema: JSON Schema of the predictions; likewise.
        example: Instances to try; likewise.
    """

    version: str
    state: str
    is_default: bool = False
    reason: str = ""
    description: str = ""
    digest: str = ""
    timeout_s: float | None = None
    capacity: Capacity = Capacity()
    input_schema: dict[str, Any] | None = None
    output_schema: dict[str, Any] | None = None
    example: Any = None


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A model and its versions, the newest first."""

    name: str
    versions: tuple[VersionInfo, ...]


class ModelList(msgspec.Struct):
    """The body of ``GET /models``."""

    models: list[ModelInfo]
