"""Clusters: one for a whole module whose faults leave it healthy, or one of a test's own.

A module uses the one or the other: two clusters at one broker would share their queues.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.broker import Broker
from tests.support.cluster import Cluster


@pytest.fixture
def cluster(broker: Broker, stack: ExitStack) -> Cluster:
    """A gateway and a worker of the test's own."""
    return with_a_worker(Cluster(broker, stack))


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
