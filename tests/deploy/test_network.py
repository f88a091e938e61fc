"""The network policies let happen what has to, and nothing else; each rule of them is needed."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.deploy.charts import MODEL, PLATFORM, Manifest, only, parse, render
from tests.deploy.network import Connection, Network, Peer, mutants
from tests.deploy.test_policy import PLAIN

NAMED = PLATFORM / "ci" / "production-values.yaml"  # who may call, and who resolves names
RELEASE = "fast-iris-model"

ALLOWED = [
    Connection("gateway", "rabbitmq", 5672),
    Connection("gateway", "redis", 6379),
    Connection("worker", "rabbitmq", 5672),
    Connection("client", "gateway", 8000),
    Connection("keda", "gateway", 8000),
    Connection("helm test", "gateway", 8000),
    Connection("keda", "rabbitmq", 15672),
    Connection("operator", "rabbitmq", 15672),
    Connection("prometheus", "rabbitmq", 15692),
    Connection("prometheus", "gateway", 8000),
    Connection("prometheus", "worker", 8000),
    *(Connection("rabbitmq", "rabbitmq", port) for port in (4369, 25672, 35672, 35682)),
    *(
        Connection(source, "names", port, protocol)
        for source in ("gateway", "worker")
        for port in (53, 5353)  # where its pods listen, and not the port of its Service
        for protocol in ("UDP", "TCP")
    ),
]
ALLOWED_WHERE_NAMED = [
    Connection("client", "gateway", 9000),
    Connection("gateway", "database", 6432),
    Connection("gateway", "artefacts", 9443),
]
DENIED = [
    Connection("worker", "redis", 6379),
    Connection("worker", "gateway", 8000),
    Connection("stranger", "redis", 6379),
    Connection("stranger", "worker", 8000),
    Connection("gateway", "worker", 8000),
    Connection("neighbour", "redis", 6379),
    *(
        Connection(source, "rabbitmq", port)
        for source in ("stranger", "neighbour")
        for port in (4369, 5672, 15672, 15692)
    ),
    Connection("worker", "rabbitmq", 15672),
    Connection("gateway", "rabbitmq", 15672),
    Connection("keda", "rabbitmq", 5672),
    Connection("prometheus", "rabbitmq", 5672),
    Connection("redis", "names", 53, "UDP"),
    *(Connection(source, "stranger", 443) for source in ("gateway", "worker", "redis")),
    *(Connection(source, "stranger", 5672) for source in ("gateway", "worker")),
    Connection("gateway", "stranger", 6379),
]
ONLY_WHERE_NAMED = [
    *(Connection(source, "gateway", 8000) for source in ("stranger", "neighbour", "operator")),
    *(Connection("gateway", "stranger", port, "UDP") for port in (53, 5353)),
]
"""What is denied as soon as it is said who the clients and the resolvers are."""


def complaints_of(manifests: list[Manifest], *, are_named: bool) -> list[str]:
    """Give every connection that is decided wrongly."""
    network = Network(manifests, peers_of(manifests))
    denied = [*DENIED, *ONLY_WHERE_NAMED] if are_named else DENIED
    allowed = [*ALLOWED, *ALLOWED_WHERE_NAMED] if are_named else ALLOWED
    refused = [f"refused: {one}" for one in allowed if not network.allows(one)]
    return refused + [f"allowed: {one}" for one in denied if network.allows(one)]


def peers_of(manifests: list[Manifest]) -> list[Peer]:
    """Give the pods of the manifests, and others in the cluster."""
    test = {"app.kubernetes.io/part-of": "modelyard", "app.kubernetes.io/component": "test"}
    broker = {
        "app.kubernetes.io/name": "modelyard-rabbitmq",
        "app.kubernetes.io/component": "rabbitmq",
    }
    return [
        _peer("gateway", only(manifests, "Deployment", "modelyard-gateway")),
        _peer("redis", only(manifests, "Deployment", "modelyard-redis")),
        _peer("worker", only(manifests, "Deployment", RELEASE)),
        Peer("rabbitmq", "modelyard", broker, {}),
        Peer("helm test", "modelyard", test, {}),
        Peer("neighbour", "modelyard", {"app": "another"}, {}),
        Peer("client", "gateways", {"app": "ingress"}, {}),
        Peer("prometheus", "monitoring", {"app.kubernetes.io/name": "prometheus"}, {}),
        Peer("keda", "keda", {"app": "keda-operator"}, {}),
        Peer("operator", "rabbitmq-system", {"app": "operator"}, {}),
        Peer("database", "databases", {"app": "postgresql"}, {}),
        Peer("artefacts", "storage", {"app": "minio"}, {}),
        Peer("names", "kube-system", {"k8s-app": "kube-dns"}, {}),
        # In another namespace labels prove nothing: whoever may create pods there chooses them.
        Peer("stranger", "default", {**broker, **test, "app.kubernetes.io/component": "x"}, {}),
    ]


def _peer(name: str, deployment: Manifest) -> Peer:
    template = deployment["spec"]["template"]
    named = {
        port["name"]: port["containerPort"]
        for container in template["spec"]["containers"]
        for port in container["ports"]
    }
    return Peer(name, deployment["metadata"]["namespace"], template["metadata"]["labels"], named)


def rendered() -> list[Manifest]:
    """Give the platform, with clients and resolvers named, and a model."""
    return [*render(PLATFORM, "--values", NAMED), *render(MODEL, release=RELEASE)]


def test_what_has_to_happen_can_and_nothing_else() -> None:
    assert complaints_of(rendered(), are_named=True) == []


def test_so_it_is_with_the_defaults_and_the_plain_files() -> None:
    defaults = [*render(PLATFORM), *render(MODEL, release=RELEASE)]
    plain = [manifest for path in PLAIN for manifest in parse(path.read_text())]
    for manifests in (defaults, plain):
        assert complaints_of(manifests, are_named=False) == []
        network = Network(manifests, peers_of(manifests))
        assert all(network.allows(one) for one in ONLY_WHERE_NAMED)  # nobody was named


POLICIES = [one["metadata"]["name"] for one in rendered() if one["kind"] == "NetworkPolicy"]
SLIPS = [
    (name, slip, place, value)
    for name in POLICIES
    for slip, place, value in mutants(only(rendered(), "NetworkPolicy", name))
]


@pytest.mark.parametrize(
    ("name", "slip", "place", "value"), SLIPS, ids=[f"{name}: {slip}" for name, slip, *_ in SLIPS]
)
def test_every_slip_is_noticed(name: str, slip: str, place: list[str | int], value: Any) -> None:
    manifests = rendered()
    node: Any = only(manifests, "NetworkPolicy", name)
    *path, last = place
    for key in path:
        node = node[key]
    if value is None:
        del node[last]
    else:
        node[last] = value
    if place[-2] == "ports" and not node:  # no list at all would open every port
        node.append({"port": 1})
    assert complaints_of(manifests, are_named=True), slip


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_that_is_missing_is_noticed(name: str) -> None:
    manifests = copy.deepcopy(rendered())
    manifests.remove(only(manifests, "NetworkPolicy", name))
    assert complaints_of(manifests, are_named=True)
