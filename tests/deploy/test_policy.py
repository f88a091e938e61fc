"""Every manifest obeys the policy, and the policy notices what does not."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.charts import (
    CASE_NAMES,
    CASES,
    PLATFORM,
    Manifest,
    parse,
    render,
    render_case,
)
from tests.deploy.policy import complaints_of
from tests.support.server import ROOT

PLAIN = [
    *sorted((ROOT / "k8s-config").glob("*.yaml")),
    ROOT / "app" / "k8s" / "deployment.yaml",
    *sorted((ROOT / "models").glob("*/k8s/deployment.yaml")),
]


@pytest.mark.parametrize(("chart", "values"), CASES, ids=CASE_NAMES)
def test_the_charts_obey(chart: Path, values: Path | None) -> None:
    assert complaints_of(render_case(chart, values)) == []


def test_the_plain_files_obey() -> None:
    manifests = [manifest for path in PLAIN for manifest in parse(path.read_text())]
    assert {"Namespace", "RabbitmqCluster", "Deployment"} <= {one["kind"] for one in manifests}
    assert complaints_of(manifests) == []


def test_the_namespace_enforces_restricted() -> None:
    (namespace,) = parse((ROOT / "k8s-config" / "namespace.yaml").read_text())
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


POD, CONTAINER = "spec.template.spec", "spec.template.spec.containers.0"
BROKER = "spec.override.statefulSet.spec.template.spec"


@pytest.mark.parametrize(
    ("kind", "place", "value", "complaint"),
    [
        ("Deployment", f"{POD}.securityContext.runAsNonRoot", False, "runAsNonRoot"),
        ("Deployment", f"{POD}.securityContext.runAsUser", 0, "runAsUser"),
        ("Deployment", f"{POD}.securityContext.runAsUser", None, "runAsUser"),
        ("Deployment", f"{POD}.securityContext.seccompProfile", {"type": "Unconfined"}, "seccomp"),
        ("Deployment", f"{POD}.hostNetwork", True, "hostNetwork"),
        ("Deployment", f"{POD}.volumes.0", {"name": "x", "hostPath": {"path": "/"}}, "volume x"),
        ("Deployment", f"{POD}.automountServiceAccountToken", True, "automount"),
        ("Deployment", f"{POD}.enableServiceLinks", True, "enableServiceLinks"),
        ("Deployment", f"{POD}.terminationGracePeriodSeconds", 30, "killed after 30 s"),
        ("Deployment", f"{CONTAINER}.securityContext.allowPrivilegeEscalation", True, "allowPriv"),
        ("Deployment", f"{CONTAINER}.securityContext.privileged", True, "privileged"),
        ("Deployment", f"{CONTAINER}.securityContext.readOnlyRootFilesystem", None, "readOnlyRoot"),
        ("Deployment", f"{CONTAINER}.securityContext.capabilities", {"drop": []}, "capabilities"),
        ("Deployment", f"{CONTAINER}.securityContext.runAsUser", 0, "may be root"),
        ("Deployment", f"{CONTAINER}.ports.0.hostPort", 80, "hostPort"),
        ("Deployment", f"{CONTAINER}.image", "registry:5000/gateway", "not pinned"),
        ("Deployment", f"{CONTAINER}.image", "registry/gateway:latest", "not pinned"),
        ("Deployment", f"{CONTAINER}.resources.requests.cpu", None, "no requests"),
        ("Deployment", f"{CONTAINER}.resources.limits.memory", "1Gi", "not limited"),
        ("Deployment", f"{CONTAINER}.readinessProbe", None, "no readinessProbe"),
        ("Deployment", f"{CONTAINER}.livenessProbe.periodSeconds", 1, "ended before"),
        ("Deployment", f"{CONTAINER}.env.0.value", "amqp://me:secret@host/", "holds a password"),
        ("Deployment", f"{CONTAINER}.env.0.valueFrom", {"secretKeyRef": {}}, "from a Secret"),
        ("Deployment", f"{CONTAINER}.args.0", "--amqp-url=amqp://a:b@c", "argument"),
        ("Deployment", "spec.strategy.rollingUpdate.maxUnavailable", 1, "gap in capacity"),
        ("Deployment", "metadata.namespace", None, "no namespace"),
        ("ServiceAccount", "automountServiceAccountToken", None, "token"),
        ("ServiceAccount", "kind", "ClusterRole", "interface"),
        ("PodDisruptionBudget", "spec.maxUnavailable", 0, "drained"),
        ("PodDisruptionBudget", "spec.selector.matchLabels", {"a": "b"}, "0 disruption budgets"),
        ("NetworkPolicy", "spec.podSelector.matchLabels", {"a": "b"}, "no network policy"),
        ("RabbitmqCluster", f"{BROKER}.securityContext.runAsNonRoot", None, "runAsNonRoot"),
        ("RabbitmqCluster", f"{BROKER}.containers.0.securityContext", {}, "readOnlyRoot"),
        ("RabbitmqCluster", f"{BROKER}.initContainers", [], "not every container"),
        ("RabbitmqCluster", "spec.image", "rabbitmq", "not pinned"),
        ("RabbitmqCluster", "spec.resources.limits.memory", "1Gi", "not limited"),
    ],
)
def test_the_policy_notices(
    platform: list[Manifest], kind: str, place: str, value: Any, complaint: str
) -> None:
    manifests = copy.deepcopy(platform)
    first = next(one for one in manifests if one["kind"] == kind)
    assert complaints_of(manifests) == []
    _put(first, place.split("."), value)
    assert complaint in "\n".join(complaints_of(manifests))


@pytest.fixture(scope="module")
def platform() -> list[Manifest]:
    """The platform with its defaults."""
    return render(PLATFORM)


def _put(node: Any, place: list[str], value: Any) -> None:
    *path, last = place
    for key in path:
        node = node[int(key)] if isinstance(node, list) else node.setdefault(key, {})
    if isinstance(node, list):
        node[int(last)] = value
    elif value is None:
        node.pop(last, None)
    else:
        node[last] = value
