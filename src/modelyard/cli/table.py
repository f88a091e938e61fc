"""``modelyard models`` as a table: a row per version, and one per worker that does not serve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from modelyard.cli.telling import lay_out

if TYPE_CHECKING:
    from modelyard.client import ModelInfo, VersionInfo, WorkerInfo

HEADS = ("MODEL", "VERSION", "STATE", "WORKERS", "RUNNERS", "IN FLIGHT", "QUEUED", "WHY")


def table_of(models: Sequence[ModelInfo]) -> list[str]:
    """Return the lines for what ``GET /models`` lists.

    In a cluster a version also lists its workers; of these, the ones that serve are in the sums
    already.
    """
    rows: list[tuple[str, ...]] = [HEADS]
    for model in models:
        for version in model.versions:
            rows.append(_version_row(model.name, version))
            rows += [_worker_row(worker) for worker in version.workers if worker.state != "ready"]
    is_routed = any(0 < version.share < 1 for model in models for version in model.versions)
    by_route = ", or as many of them as it says" if is_routed else ""
    return [*lay_out(rows), f"* answers requests that name no version{by_route}"]


def _version_row(name: str, version: VersionInfo) -> tuple[str, ...]:
    capacity = version.capacity
    share = f" {100 * version.share:.3g} %" if 0 < version.share < 1 else ""
    return (
        name,
        version.version + ("*" if version.is_default else "") + share,
        version.state,
        str(capacity.workers),
        f"{capacity.runners_ready}/{capacity.runners}",
        str(capacity.in_flight),
        "-" if capacity.queued is None else str(capacity.queued),
        version.reason or _outlived(version.reload_failed),
    )


def _outlived(why: str) -> str:
    return f"serves an older state of its folder: {why}" if why else ""


def _worker_row(worker: WorkerInfo) -> tuple[str, ...]:
    runners = f"{worker.runners_ready}/{worker.runners}"
    place = worker.host or worker.name
    return (f"  on {place}", "", worker.state, "", runners, "", "", worker.reason)
