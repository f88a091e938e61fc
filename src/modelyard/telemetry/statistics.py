"""What the metrics of this process say of each target, for protocols that ask for statistics."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from modelyard.core.names import Target

Sums = defaultdict[str, float]

_SAMPLES = {
    "modelyard_request_seconds_sum": "request_s",
    "modelyard_queue_wait_seconds_count": "queued",
    "modelyard_queue_wait_seconds_sum": "queue_s",
    "modelyard_batch_size_count": "batches",
    "modelyard_batch_size_sum": "instances",
    "modelyard_model_seconds_sum": "model_s",
}


class Statistics(NamedTuple):
    """Sums since the process began; seconds where they end in ``_s``.

    What only a pool knows (``queued``, ``batches``, ``instances``) is 0 in a gateway of a cluster.
    """

    ok: int
    failed: int
    hits: int
    misses: int
    queued: int
    batches: int
    instances: int
    request_s: float
    queue_s: float
    model_s: float


def statistics_of(text: bytes) -> dict[Target, Statistics]:
    """Return the statistics of all targets that have any, from the output of ``Metrics.render``."""
    sums: defaultdict[Target, Sums] = defaultdict(lambda: defaultdict(float))
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            labels = sample.labels
            if not (labels.get("model") and labels.get("version")):
                continue
            of_target = sums[Target(labels["model"], labels["version"])]
            if sample.name == "modelyard_requests_total":
                of_target["ok" if labels["code"] == "ok" else "failed"] += sample.value
            elif sample.name == "modelyard_cache_requests_total":
                is_hit = labels["use"] in ("hit", "coalesced")
                of_target["hits" if is_hit else "misses"] += sample.value
            elif name := _SAMPLES.get(sample.name):
                of_target[name] += sample.value
    return {target: _statistics(found) for target, found in sums.items()}


def _statistics(sums: Sums) -> Statistics:
    return Statistics(
        ok=int(sums["ok"]),
        failed=int(sums["failed"]),
        hits=int(sums["hits"]),
        misses=int(sums["misses"]),
        queued=int(sums["queued"]),
        batches=int(sums["batches"]),
        instances=int(sums["instances"]),
        request_s=sums["request_s"],
        queue_s=sums["queue_s"],
        model_s=sums["model_s"],
    )


NONE = _statistics(defaultdict(float))
