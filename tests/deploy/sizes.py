"""What manifests ask a cluster for, with as many pods of each kind as there are at least."""

from __future__ import annotations

import re
from typing import NamedTuple

from tests.deploy.charts import Manifest

_MEBI = {"Ki": 1 / 1024, "Mi": 1, "Gi": 1024}


class Size(NamedTuple):
    """``cores`` and ``gibi`` are what the scheduler has to find free."""

    pods: int
    cores: float
    gibi: float


def size_of(manifests: list[Manifest]) -> Size:
    """Add up all workloads."""
    pods, milli, mebi = 0, 0.0, 0.0
    for manifest in manifests:
        if manifest["kind"] == "RabbitmqCluster":
            number, resources = manifest["spec"]["replicas"], [manifest["spec"]["resources"]]
        elif manifest["kind"] == "Deployment":
            number = _replicas(manifest, manifests)
            containers = manifest["spec"]["template"]["spec"]["containers"]
            resources = [container["resources"] for container in containers]
        else:
            continue
        pods += number
        milli += number * sum(_milli(one["requests"]["cpu"]) for one in resources)
        mebi += number * sum(_mebi(one["requests"]["memory"]) for one in resources)
    return Size(pods, round(milli / 1000, 1), round(mebi / 1024, 1))


def _replicas(deployment: Manifest, manifests: list[Manifest]) -> int:
    """Give how many there are at least: by its autoscaler, if it has one."""
    name = deployment["metadata"]["name"]
    for scaler in manifests:
        target = scaler.get("spec", {}).get("scaleTargetRef", {}).get("name")
        if scaler["kind"] == "HorizontalPodAutoscaler" and target == name:
            return int(scaler["spec"]["minReplicas"])
    return int(deployment["spec"]["replicas"])


def _milli(cpu: str) -> float:
    return float(cpu[:-1]) if cpu.endswith("m") else float(cpu) * 1000


def _mebi(memory: str) -> float:
    found = re.fullmatch(r"(\d+)(Ki|Mi|Gi)", memory)
    assert found, memory
    return int(found[1]) * _MEBI[found[2]]
