"""What every manifest has to obey. Gives sentences that name what does not.

The Pod Security Standard "restricted" is
https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted; the rest is ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.deploy.charts import Manifest
from tests.deploy.workloads import Complaints, check_workloads, is_rolling

_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral"} | {
    *("image", "persistentVolumeClaim", "projected", "secret"),  # image: from 1.33 on
}
_WORKLOADS = {"Deployment", "StatefulSet", "DaemonSet", "Job"}


def complaints_of(manifests: list[Manifest]) -> list[str]:
    """Give everything that is wrong with manifests that are installed together."""
    found: list[str] = []
    for manifest in manifests:
        name = f"{manifest['kind']}/{manifest['metadata']['name']}"
        if pod := pod_of(manifest):
            found += [f"{name}: {complaint}" for check in CHECKS for complaint in check(pod)]
        if manifest["kind"] == "RabbitmqCluster":
            found += [f"{name}: {complaint}" for complaint in check_broker(manifest["spec"])]
        found += [f"{name}: {complaint}" for complaint in check_manifest(manifest)]
    return found + check_workloads(manifests)


def pod_of(manifest: Manifest) -> Manifest | None:
    """Give the pod's spec in a manifest, with what belongs to its kind; None if there is none."""
    if manifest["kind"] == "Pod":
        return {"is_serving": False, **manifest["spec"]}
    if manifest["kind"] in _WORKLOADS:
        return {"is_serving": manifest["kind"] != "Job", **manifest["spec"]["template"]["spec"]}
    return None


def _containers(pod: Manifest) -> list[Manifest]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def check_pod_security(pod: Manifest) -> Complaints:
    """ "restricted", of the pod."""
    security = pod.get("securityContext", {})
    if security.get("runAsNonRoot") is not True:
        yield "runAsNonRoot is not true"
    if not isinstance(security.get("runAsUser"), int) or security["runAsUser"] == 0:
        yield "runAsUser is no number other than 0"
    if security.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "seccompProfile is not RuntimeDefault"
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(field):
            yield f"{field} is true"
    for volume in pod.get("volumes", []):
        if not set(volume) - {"name"} <= _VOLUMES:
            yield f"volume {volume['name']} is of a kind that is not allowed"
    if pod.get("automountServiceAccountToken") is not False:
        yield "automountServiceAccountToken is not false"
    if pod.get("enableServiceLinks") is not False:
        yield "enableServiceLinks is not false: Services would be taken for settings"


def check_container_security(pod: Manifest) -> Complaints:
    """ "restricted", of each container, and a root file system that is read-only."""
    for container in _containers(pod):
        yield from (f"{container['name']}: {text}" for text in _container_security(container))


def _container_security(container: Manifest) -> Complaints:
    security = container.get("securityContext", {})
    if security.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if security.get("privileged"):
        yield "privileged is true"
    if security.get("readOnlyRootFilesystem") is not True:
        yield "readOnlyRootFilesystem is not true"
    if security.get("capabilities") != {"drop": ["ALL"]}:
        yield "capabilities are not: drop ALL"
    if security.get("runAsUser") == 0 or security.get("runAsNonRoot") is False:
        yield "may be root"
    if any("hostPort" in port for port in container.get("ports", [])):
        yield "has a hostPort"


def check_images(pod: Manifest) -> Complaints:
    """A tag other than latest, or a digest."""
    for container in _containers(pod):
        if problem := image_problem(container["image"]):
            yield f"{container['name']}: {problem}"


def image_problem(image: str) -> str:
    """Say what is wrong with an image's name, or nothing."""
    name, _, digest = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    return "" if digest or (tag and tag != "latest") else f"image {image} is not pinned"


def check_resources(pod: Manifest) -> Complaints:
    """Requests of CPU and memory; memory limited to what was requested."""
    for container in _containers(pod):
        yield from _resources(container["name"], container.get("resources", {}))


def _resources(name: str, resources: Manifest) -> Complaints:
    requests, limits = resources.get("requests", {}), resources.get("limits", {})
    if not requests.get("cpu") or not requests.get("memory"):
        yield f"{name}: no requests of CPU and memory"
    if not limits.get("memory") or limits["memory"] != requests.get("memory"):
        yield f"{name}: memory is not limited to what is requested"


def check_probes(pod: Manifest) -> Complaints:
    """All three, where something is served; liveness more patient than readiness."""
    if not pod["is_serving"]:
        return
    for container in pod["containers"]:
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if probe not in container:
                yield f"{container['name']}: no {probe}"
                return
        live, ready = (
            container[probe].get("periodSeconds", 10) * container[probe].get("failureThreshold", 3)
            for probe in ("livenessProbe", "readinessProbe")
        )
        if live <= ready:
            yield f"{container['name']}: it is ended before it is spared"


def check_arguments(pod: Manifest) -> Complaints:
    """Secrets are files: no argument and no variable holds one."""
    for container in _containers(pod):
        for variable in container.get("env", []):
            if "secretKeyRef" in variable.get("valueFrom", {}):
                yield f"{container['name']}: {variable['name']} comes from a Secret"
            if "@" in variable.get("value", "") and "://" in variable["value"]:
                yield f"{container['name']}: {variable['name']} holds a password"
        if "envFrom" in container:
            yield f"{container['name']}: envFrom"
        for text in [*container.get("command", []), *container.get("args", [])]:
            if "://" in text and "@" in text:
                yield f"{container['name']}: an argument holds a password"


def check_messages(pod: Manifest) -> Complaints:
    """``kubectl describe pod`` shows why a container ended, by what it logged last."""
    for container in pod["containers"]:
        if container.get("terminationMessagePolicy") != "FallbackToLogsOnError":
            yield f"{container['name']}: nobody is shown why it ended"


def check_grace(pod: Manifest) -> Complaints:
    """Time to stop: more than what the hook sleeps and the process drains."""
    if not pod["is_serving"]:
        return
    grace = pod.get("terminationGracePeriodSeconds")
    for container in pod["containers"]:
        variables = {one["name"]: one.get("value") for one in container.get("env", [])}
        drain = float(variables.get("MODELYARD_DRAIN_S") or 0)
        hook = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        if grace is None or grace < drain + hook + 5:
            yield f"{container['name']}: killed after {grace} s, but it drains {drain} + {hook} s"


def check_broker(spec: Manifest) -> Complaints:
    """The operator's pods, by what is asked of it."""
    pod = spec["override"]["statefulSet"]["spec"]["template"]["spec"]
    for complaint in check_pod_security({**pod, "automountServiceAccountToken": False}):
        if "enableServiceLinks" not in complaint:  # it reads no settings of ours
            yield complaint
    yield from check_container_security(pod)
    yield from check_messages(pod)
    if {"rabbitmq", "setup-container"} != {container["name"] for container in _containers(pod)}:
        yield "not every container of the operator is overridden"
    yield from _resources("rabbitmq", spec["resources"])
    if problem := image_problem(spec["image"]):
        yield problem


def check_manifest(manifest: Manifest) -> Complaints:
    """Of any kind: where it belongs, and what belongs together."""
    if manifest["metadata"].get("namespace") is None and manifest["kind"] != "Namespace":
        yield "no namespace"
    if manifest["kind"] == "ServiceAccount" and manifest.get("automountServiceAccountToken", True):
        yield "its token is mounted"
    if manifest["kind"] in ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"):
        yield "nothing of ours needs the cluster's interface"
    if manifest["kind"] == "Deployment" and is_rolling(manifest):
        rolling = manifest["spec"].get("strategy", {}).get("rollingUpdate", {})
        if rolling.get("maxUnavailable") != 0:
            yield "an update leaves a gap in capacity"


CHECKS: list[Callable[[Any], Complaints]] = [
    check_pod_security,
    check_container_security,
    check_images,
    check_resources,
    check_probes,
    check_arguments,
    check_messages,
    check_grace,
]
