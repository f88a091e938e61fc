"""Clusters: one for a whole module whose faults leave it healthy, or one of a test's own.

A module uses the one or the other: two clusters at one broker would share their queues. Gateways
are shared where that can be: each is ready only after it has listened for a while. One that has
seen a worker being killed is not, as it would go on to count it; so such tests come last.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.broker import Broker
from tests.support.cluster import Cluster
from tests.support.server import Member


@pytest.fixture
def doomed(broker: Broker, stack: ExitStack) -> Cluster:
    """A gateway and a worker of the test's own, which may be killed."""
    return with_a_worker(Cluster(broker, stack))


@pytest.fixture(scope="module")
def gateway(broker: Broker) -> Iterator[Member]:
    """A gateway that a whole module shares."""
    with ExitStack() as stack:
        yield Cluster(broker, stack).gateway


@pytest.fixture
def cluster(broker: Broker, stack: ExitStack, gateway: Member) -> Cluster:
    """A worker of the test's own behind the module's gateway."""
    return with_a_worker(Cluster(broker, stack, gateway))


@pytest.fixture(scope="module")
def steady(broker: Broker) -> Iterator[Cluster]:
    """A gateway and a worker that a whole module shares."""
    with ExitStack() as stack:
        yield with_a_worker(Cluster(broker, stack))


def with_a_worker(cluster: Cluster) -> Cluster:
    """Start a worker that the gateway knows of."""
    cluster.start_worker()
    cluster.wait_for_workers(1)
    return cluster
