"""What the Open Inference Protocol V2 tells of server and models, as documents.

REST has them as JSON (``v2_pages.py``), gRPC as messages (``grpc/pages.py``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from modelyard.access.keyring import Principal
from modelyard.core.datatypes import DATATYPES
from modelyard.core.errors import InvalidInput, Unavailable
from modelyard.core.messages import State
from modelyard.dispatch.catalog import Catalog
from modelyard.dispatch.entry import Entry
from modelyard.gateway.routes import ByHand
from modelyard.gateway.rules import visible_to
from modelyard.gateway.types import RenderMetrics
from modelyard.telemetry.statistics import NONE, Statistics, statistics_of

PLATFORM = "modelyard"
EXTENSIONS = (
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "schedule_policy",
    "statistics",
)

_STATES: dict[State, str] = {
    "starting": "LOADING",
    "ready": "READY",
    "recovering": "READY",
    "asleep": "READY",
    "failed": "UNAVAILABLE",
    "stopped": "UNAVAILABLE",
}
_NANOSECONDS = 1_000_000_000


def server_document(version: str) -> dict[str, Any]:
    """Return what this server is and offers; ``version``: of Modelyard."""
    return {"name": "modelyard", "version": version, "extensions": list(EXTENSIONS)}


def metadata_document(catalog: Catalog, name: str, version: str | None) -> dict[str, Any]:
    """Return a model's inputs and outputs.

    Raises:
        RequestError: It is not there, or has not been loaded yet.
    """
    entry = catalog.stable(name, version)
    return {
        "name": name,
        "versions": [found.target.version for found in catalog.versions(name)],
        "platform": PLATFORM,
        **_tensors(entry),
    }


def _tensors(entry: Entry) -> dict[str, Any]:
    """Return ``inputs`` and ``outputs`` of a target.

    Raises:
        RequestError: They are not known: the model has not been loaded yet.
    """
    schema = entry.announcement.schema
    if schema is None:
        if not entry.is_serving:
            raise entry.why_not()
        raise Unavailable(f"{entry.target} has not said yet what it takes")
    if not schema.tensors:
        raise Unavailable(f"the workers of {entry.target} do not say what tensors it takes")
    found: dict[str, Any] = msgspec.json.decode(schema.tensors)
    return found


def config_document(entry: Entry) -> dict[str, Any]:
    """Return a target's configuration, as Triton has it.

    Raises:
        RequestError: It has not been loaded yet.
    """
    known, tensors = entry.announcement, _tensors(entry)
    sides = {
        side: [
            {
                "name": tensor["name"],
                "data_type": _config_type(tensor["datatype"]),
                "dims": tensor["shape"][1:],  # the batch is said by max_batch_size
                **({"optional": True} if tensor.get("parameters", {}).get("optional") else {}),
            }
            for tensor in tensors[f"{side}s"]
        ]
        for side in ("input", "output")
    }
    return {
        "name": entry.target.name,
        "platform": PLATFORM,
        "backend": PLATFORM,
        "versions": [entry.target.version],
        "max_batch_size": known.max_batch_size,
        **sides,
        "instance_group": [
            {"name": entry.target.name, "kind": "KIND_CPU", "count": max(1, known.runners)}
        ],
        "dynamic_batching": {"priority_levels": 2, "default_priority_level": 2},
        "response_cache": {"enable": known.cache_ttl_s > 0},
    }


def _config_type(datatype: str) -> str:
    """Return the name that a datatype has in configurations."""
    return "TYPE_STRING" if DATATYPES[datatype].kind == "bytes" else f"TYPE_{datatype}"


def index_document(
    catalog: Catalog, by_hand: ByHand | None, principal: Principal | None, *, is_ready: bool
) -> list[dict[str, str]]:
    """Return the targets that a caller may see and their states; also those that were unloaded by
    hand, and so can be loaded.

    ``is_ready``: only of those that serve.
    """
    found = [
        {
            "name": entry.target.name,
            "version": entry.target.version,
            "state": _STATES[entry.announcement.state],
            "reason": entry.announcement.reason,
        }
        for entry in visible_to(principal, catalog.entries())
        if entry.is_open or not is_ready
    ]
    if by_hand is not None and not is_ready:
        found += [
            {"name": one.name, "version": one.version, "state": "UNAVAILABLE", "reason": "unloaded"}
            for one in by_hand.unloaded()
            if principal is None or principal.scopes.may_see(one.name)
        ]
    return found


def stats_entries(catalog: Catalog, name: str, version: str | None) -> list[Entry]:
    """Return the targets whose statistics are meant: all of a model unless a version is named.

    Raises:
        RequestError: It is not there.
    """
    entry = catalog.stable(name, version)
    return catalog.versions(name) if version is None else [entry]


async def stats_documents(
    entries: Sequence[Entry], render_metrics: RenderMetrics
) -> list[dict[str, Any]]:
    """Return the statistics of targets."""
    # In a thread, as /metrics.
    found = await asyncio.to_thread(lambda: statistics_of(render_metrics()[0]))
    return [_stats(entry, found.get(entry.target, NONE)) for entry in entries]


def _stats(entry: Entry, found: Statistics) -> dict[str, Any]:
    return {
        "name": entry.target.name,
        "version": entry.target.version,
        "inference_count": found.instances or found.ok,
        "execution_count": found.batches or found.ok,
        "inference_stats": {
            "success": _duration(found.ok, found.request_s),
            "fail": _duration(found.failed),
            "queue": _duration(found.queued, found.queue_s),
            "compute_input": _duration(found.batches),
            "compute_infer": _duration(found.batches, found.model_s),
            "compute_output": _duration(found.batches),
            "cache_hit": _duration(found.hits),
            "cache_miss": _duration(found.misses),
        },
        "batch_stats": [],
    }


def _duration(count: int, seconds: float = 0.0) -> dict[str, int]:
    return {"count": count, "ns": round(seconds * _NANOSECONDS)}


def check_load(parameters: Iterable[str]) -> None:
    """See that a model is to be loaded as its folder is.

    ``parameters``: the names of those that came with the call.

    Raises:
        InvalidInput: They hold another configuration, or files.
    """
    for name in parameters:
        if name == "config" or name.startswith("file:"):
            raise InvalidInput(
                "a model is loaded as its folder is; no configuration or files are taken",
                where=f"$.parameters.{name}",
            )
