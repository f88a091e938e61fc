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
        max_batch_size: Instances that one call of ``predict`` gets at most.
        in_flight: Requests in progress in the gateway that answered.
        max_in_flight: How many of them there may be; beyond it is a 503.
    """

    workers: int = 0
    runners: int = 0
    runners_ready: int = 0
    queued: int | None = None
    max_batch_size: int = 0
    in_flight: int = 0
    max_in_flight: int = 0


class WorkerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One worker of a version, in a cluster.

    Attributes:
        name: Its own, which no other worker has.
        host: The machine or pod that it runs on.
        state: As of a version.
        reason: Why it is not ready.
        runners: Its processes that hold the model.
        runners_ready: Those of them that can be asked.
    """

    name: str
    host: str = ""
    state: str = ""
    reason: str = ""
    runners: int = 0
    runners_ready: int = 0


class VersionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a model.

    Attributes:
        version: Its name.
        state: starting, ready, recovering, failed, stopped or asleep.
        is_default: Whether it answers most of the requests that name no version.
        share: Of these requests, from 0 to 1.
        reason: Why it is not ready.
        reload_failed: Why its folder as it is now is not served.
        description: From the model's folder.
        digest: Of the model's folder.
        timeout_s: What a request without ``timeout_s`` gets, in seconds.
        cache_ttl_s: For how long answers are cached, in seconds.
        calls: The models that it may call.
        capacity: What serves it.
        workers: In a cluster; those that serve come first.
    """

    version: str
    state: str
    is_default: bool = False
    share: float = 0.0
    reason: str = ""
    reload_failed: str = ""
    description: str = ""
    digest: str = ""
    timeout_s: float | None = None
    cache_ttl_s: float | None = None
    calls: tuple[str, ...] = ()
    capacity: Capacity = Capacity()
    workers: tuple[WorkerInfo, ...] = ()


class VersionDetails(VersionInfo, frozen=True, kw_only=True):
    """One version with its schemas, which it has once it has been loaded.

    Attributes:
        input_schema: JSON Schema of the instances.
        output_schema: JSON Schema of the predictions.
        example: Instances to try.
    """

    input_schema: dict[str, Any] | None = None
    output_schema: dict[str, Any] | None = None
    example: Any = None


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A model and its versions, the newest first."""

    name: str
    versions: tuple[VersionInfo, ...]


class ModelDetails(msgspec.Struct, frozen=True, kw_only=True):
    """A model and all that is known of its versions, the newest first."""

    name: str
    versions: tuple[VersionDetails, ...]


class ModelList(msgspec.Struct):
    """The body of ``GET /models``."""

    models: list[ModelInfo]
