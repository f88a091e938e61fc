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
MONITORING = ROOT / "k8s-config" / "monitoring" / "stack"
STACK = [
    *(ROOT / "k8s-config" / "monitoring").glob("*.yaml"),
    *(path for path in sorted(MONITORING.glob("*.yaml")) if path.name != "kustomization.yaml"),
]


@pytest.mark.parametrize(("chart", "values"), CASES, ids=CASE_NAMES)
def test_the_charts_obey(chart: Path, values: Path | None) -> None:
    assert complaints_of(render_case(chart, values)) == []


def test_the_plain_files_obey() -> None:
    manifests = [manifest for path in PLAIN for manifest in parse(path.read_text())]
    assert {"Namespace", "RabbitmqCluster", "Deployment"} <= {one["kind"] for one in manifests}
    assert complaints_of(manifests) == []


def test_the_monitoring_obeys_but_for_what_prometheus_needs() -> None:
    manifests = [manifest for path in STACK for manifest in parse(path.read_text())]
    interface = "nothing of ours needs the cluster's interface"
    assert complaints_of(manifests) == [
        f"Role/prometheus: {interface}",
        f"RoleBinding/prometheus: {interface}",
        "Deployment/prometheus: automountServiceAccountToken is not false",
    ]
    # And that is little: to see the pods of one namespace.
    (role,) = (one for one in manifests if one["kind"] == "Role")
    assert role["metadata"]["namespace"] == "modelyard"
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}
    ]


@pytest.mark.parametrize(
    "path",
    [ROOT / "k8s-config" / "namespace.yaml", MONITORING / "namespace.yaml"],
    ids=lambda path: path.parent.name,
)
def test_the_namespace_enforces_restricted(path: Path) -> None:
    (namespace,) = parse(path.read_text())
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


POD, CONTAINER = "spec.template.spec", "spec.template.spec.containers.0"
SPREAD = f"{POD}.topologySpreadConstraints"
CPU = "spec.metrics.0.resource.target"
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
        ("Deployment", "spec.strategy", None, "gap in capacity"),
        ("Deployment", f"{CONTAINER}.terminationMessagePolicy", None, "why it ended"),
        ("Deployment", f"{CONTAINER}.lifecycle", None, "no preStop"),
        ("Deployment", f"{CONTAINER}.lifecycle.preStop.sleep.seconds", 0, "no preStop"),
        ("Deployment", f"{POD}.topologySpreadConstraints", None, "not spread over topology"),
        ("Deployment", f"{POD}.topologySpreadConstraints.1.topologyKey", "x", "kubernetes.io/host"),
        ("Deployment", f"{SPREAD}.0.labelSelector.matchLabels", {"a": "b"}, "not spread over"),
        ("Deployment", "spec.replicas", 2, "undo what was scaled"),
        ("HorizontalPodAutoscaler", f"{CPU}.averageUtilization", 90, "aim at 80 %"),
        ("HorizontalPodAutoscaler", "spec.metrics", None, "aim at 80 %"),
        ("HorizontalPodAutoscaler", "spec.minReplicas", 11, "at least more than at most"),
        ("HorizontalPodAutoscaler", "spec.scaleTargetRef.name", "x", "which is not there"),
        ("Deployment", "metadata.namespace", None, "no namespace"),
        ("ServiceAccount", "automountServiceAccountToken", None, "token"),
        ("ServiceAccount", "kind", "ClusterRole", "interface"),
        ("PodDisruptionBudget", "spec.maxUnavailable", 0, "drained"),
        ("PodDisruptionBudget", "spec.selector.matchLabels", {"a": "b"}, "0 disruption budgets"),
        ("NetworkPolicy", "spec.podSelector.matchLabels", {"a": "b"}, "no network policy"),
        ("RabbitmqCluster", f"{BROKER}.securityContext.runAsNonRoot", None, "runAsNonRoot"),
        ("RabbitmqCluster", f"{BROKER}.containers.0.securityContext", {}, "readOnlyRoot"),
        (
            "RabbitmqCluster",
            f"{BROKER}.containers.0.terminationMessagePolicy",
            None,
            "why it ended",
        ),
        ("RabbitmqCluster", f"{BROKER}.initContainers", [], "not every container"),
        ("RabbitmqCluster", f"{BROKER}.topologySpreadConstraints", [], "not spread over"),
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
