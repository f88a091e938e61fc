"""What belongs to each workload: budgets, policies, autoscalers, spread, time to leave a Service.

Called by ``policy``, with all the manifests that are installed together.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.deploy.charts import Manifest

CPU_PERCENT = 80
SPREAD_OVER = ("topology.kubernetes.io/zone", "kubernetes.io/hostname")

Complaints = Iterator[str]


class Workload(NamedTuple):
    """Something that makes pods. ``is_rolling``: an update replaces them one by one."""

    name: str
    labels: dict[str, str]
    pod: Manifest
    is_rolling: bool


def check_workloads(manifests: list[Manifest]) -> list[str]:
    """Give what is wrong with each workload and with each autoscaler."""
    found = []
    for workload in _workloads(manifests):
        for check in (_budget, _network, _spread, _leaving):
            found += [f"{workload.name}: {text}" for text in check(workload, manifests)]
    for manifest in manifests:
        if manifest["kind"] in ("HorizontalPodAutoscaler", "ScaledObject"):
            name = f"{manifest['kind']}/{manifest['metadata']['name']}"
            found += [f"{name}: {text}" for text in _autoscaler(manifest, manifests)]
    return found


def is_rolling(deployment: Manifest) -> bool:
    """Whether an update replaces the pods one by one, which is Kubernetes' default."""
    return bool(deployment["spec"].get("strategy", {}).get("type") != "Recreate")


def _workloads(manifests: list[Manifest]) -> Iterator[Workload]:
    for manifest in manifests:
        name, spec = f"{manifest['kind']}/{manifest['metadata']['name']}", manifest.get("spec", {})
        if manifest["kind"] in ("Deployment", "StatefulSet"):
            template = spec["template"]
            yield Workload(
                name, template["metadata"]["labels"], template["spec"], is_rolling(manifest)
            )
        if manifest["kind"] == "RabbitmqCluster":  # the labels that the operator gives its pods
            labels = {
                "app.kubernetes.io/name": manifest["metadata"]["name"],
                "app.kubernetes.io/component": "rabbitmq",
            }
            pod = spec["override"]["statefulSet"]["spec"]["template"]["spec"]
            yield Workload(name, labels, pod, is_rolling=True)


def _budget(workload: Workload, manifests: list[Manifest]) -> Complaints:
    budgets = _selecting(manifests, "PodDisruptionBudget", "selector", workload.labels)
    if len(budgets) != 1:
        yield f"{len(budgets)} disruption budgets"
    if any(budget["spec"].get("maxUnavailable") in (0, "0%") for budget in budgets):
        yield "no node can ever be drained"


def _network(workload: Workload, manifests: list[Manifest]) -> Complaints:
    enforces = any(manifest["kind"] == "NetworkPolicy" for manifest in manifests)
    if enforces and not _selecting(manifests, "NetworkPolicy", "podSelector", workload.labels):
        yield "no network policy"


def _spread(workload: Workload, manifests: list[Manifest]) -> Complaints:
    """Where there may be several, they are not all on one node or in one zone."""
    if not workload.is_rolling:
        return
    constraints = workload.pod.get("topologySpreadConstraints", [])
    own = [
        one["topologyKey"]
        for one in constraints
        if one["labelSelector"]["matchLabels"].items() <= workload.labels.items()
    ]
    for key in SPREAD_OVER:
        if key not in own:
            yield f"not spread over {key}"


def _leaving(workload: Workload, manifests: list[Manifest]) -> Complaints:
    """Who is led to by a Service has to go on until every node knows that it leaves."""
    services = [one for one in manifests if one["kind"] == "Service"]
    is_led_to = any(one["spec"]["selector"].items() <= workload.labels.items() for one in services)
    if not (is_led_to and workload.is_rolling):
        return
    for container in workload.pod["containers"]:
        hook = container.get("lifecycle", {}).get("preStop", {})
        if hook.get("sleep", {}).get("seconds", 0) < 1:
            yield f"{container['name']}: no preStop, so requests reach it when it is gone"


def _autoscaler(scaler: Manifest, manifests: list[Manifest]) -> Complaints:
    spec = scaler["spec"]
    named = spec["scaleTargetRef"]["name"]
    targets = [
        one for one in manifests if (one["kind"], one["metadata"]["name"]) == ("Deployment", named)
    ]
    if len(targets) != 1:
        yield f"it scales {named}, which is not there"
    if any("replicas" in one["spec"] for one in targets):
        yield f"{named} has replicas: an update would undo what was scaled"
    if scaler["kind"] == "HorizontalPodAutoscaler":
        wanted = {"type": "Utilization", "averageUtilization": CPU_PERCENT}
        cpu = {"type": "Resource", "resource": {"name": "cpu", "target": wanted}}
        if spec.get("metrics") != [cpu]:
            yield f"it does not aim at {CPU_PERCENT} % of the CPU"
        if spec.get("minReplicas", 1) > spec["maxReplicas"]:
            yield "at least more than at most"


def _selecting(
    manifests: list[Manifest], kind: str, field: str, labels: dict[str, str]
) -> list[Manifest]:
    return [
        manifest
        for manifest in manifests
        if manifest["kind"] == kind
        and manifest["spec"][field]["matchLabels"].items() <= labels.items()
    ]
