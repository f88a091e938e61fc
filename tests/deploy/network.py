"""Who reaches whom by the NetworkPolicies, as a plug-in that enforces them would decide.

The rules are https://kubernetes.io/docs/concepts/services-networking/network-policies/: a pod that
no policy selects for a direction is open in it; else one rule of one policy has to allow it, at
both ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.deploy.charts import Manifest


class Peer(NamedTuple):
    """A pod, by what policies see of it. ``ports``: the numbers of its named ports."""

    name: str
    namespace: str
    labels: dict[str, str]
    ports: dict[str, int]


class Connection(NamedTuple):
    """One that should, or should not, come about."""

    source: str
    target: str
    port: int
    protocol: str = "TCP"

    def __str__(self) -> str:
        return f"{self.source} to {self.target}, port {self.port}/{self.protocol}"


class Network:
    """The policies of all ``manifests``, and the pods between which they decide."""

    def __init__(self, manifests: list[Manifest], peers: list[Peer]) -> None:
        self._policies = [one for one in manifests if one["kind"] == "NetworkPolicy"]
        self._peers = {peer.name: peer for peer in peers}

    def allows(self, connection: Connection) -> bool:
        """Whether both ends let it happen."""
        source, target = self._peers[connection.source], self._peers[connection.target]
        port, protocol = connection.port, connection.protocol
        return all(
            policies is None
            or any(
                _names(rule.get(field, []), other, policy["metadata"]["namespace"])
                and _opens(rule.get("ports", []), target, port, protocol)
                for policy in policies
                for rule in policy["spec"].get(direction.lower(), [])
            )
            for direction, field, policies, other in (
                ("Egress", "to", self._selecting(source, "Egress"), target),
                ("Ingress", "from", self._selecting(target, "Ingress"), source),
            )
        )

    def _selecting(self, peer: Peer, direction: str) -> list[Manifest] | None:
        """Give the policies of a pod in a direction; None if there is none, so that it is open."""
        found = [
            policy
            for policy in self._policies
            if policy["metadata"]["namespace"] == peer.namespace
            and direction in policy["spec"]["policyTypes"]
            and _selects(policy["spec"]["podSelector"], peer.labels)
        ]
        return found or None


def _names(peers: list[Manifest], pod: Peer, namespace: str) -> bool:
    """Whether a rule's ``from`` or ``to`` means this pod; an empty one means all."""
    return not peers or any(_is(peer, pod, namespace) for peer in peers)


def _is(peer: Manifest, pod: Peer, namespace: str) -> bool:
    if "ipBlock" in peer:  # of addresses outside: no pod's
        return False
    if "namespaceSelector" in peer:
        labels = {"kubernetes.io/metadata.name": pod.namespace}
        is_there = _selects(peer["namespaceSelector"], labels)
    else:
        is_there = pod.namespace == namespace
    return is_there and _selects(peer.get("podSelector", {}), pod.labels)


def _selects(selector: Manifest, labels: dict[str, str]) -> bool:
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        _holds(one, labels) for one in selector.get("matchExpressions", [])
    )


def _holds(expression: Manifest, labels: dict[str, str]) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values", [])
    by_operator = {
        "In": value in values,
        "NotIn": value not in values,
        "Exists": value is not None,
        "DoesNotExist": value is None,
    }
    return by_operator[expression["operator"]]


def _opens(ports: list[Manifest], target: Peer, port: int, protocol: str) -> bool:
    """Whether a rule's ``ports`` have this one; an empty list has all."""
    return not ports or any(
        protocol == one.get("protocol", "TCP") and port in _range(one, target) for one in ports
    )


def _range(port: Manifest, target: Peer) -> range:
    if "port" not in port:
        return range(65536)
    first: Any = port["port"]
    number = target.ports.get(first, -1) if isinstance(first, str) else first
    return range(number, port.get("endPort", number) + 1)


def mutants(policy: Manifest) -> Iterator[tuple[str, list[str | int], Any]]:
    """Give slips in a policy: what it is, where, and what stands there then (None: nothing)."""
    spec = policy["spec"]
    for place, kind in enumerate(spec["policyTypes"]):
        yield f"{kind} not restricted", ["spec", "policyTypes", place], "None"
    for direction, field in (("ingress", "from"), ("egress", "to")):
        for number, rule in enumerate(spec.get(direction, [])):
            at: list[str | int] = ["spec", direction, number]
            yield f"no {direction} rule {number}", at, None
            for place in range(len(rule.get("ports", []))):
                yield f"no port {place} in {direction} rule {number}", [*at, "ports", place], None
            if field in rule:
                yield f"{direction} rule {number} for all", [*at, field], []
            for place in range(len(rule.get(field, [])) if len(rule.get(field, [])) > 1 else 0):
                yield f"no peer {place} in {direction} rule {number}", [*at, field, place], None
