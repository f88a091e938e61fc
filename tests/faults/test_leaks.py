"""Nothing is left behind by faults, however often they come. (``make chaos`` does it for hours.)"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import ExitStack
from typing import NamedTuple

import psutil
import pytest

from tests.faults.conftest import with_a_worker
from tests.support.broker import Broker
from tests.support.cluster import Cluster
from tests.support.ledger import Every, Ledger
from tests.support.proxy import Proxy
from tests.support.raw import connect, request_bytes
from tests.support.server import Member, wait_until

pytestmark = pytest.mark.own_broker

GROWTH_BYTES = 16 << 20
COUNT = """\
Lists = [rabbit_networking:connections(), rabbit_channel:list(), rabbit_amqqueue:list(),
  rabbit_amqqueue:consumers_all(<<"/">>)],
list_to_tuple([length(List) || List <- Lists]).
"""


class Held(NamedTuple):
    """What a cluster holds while it is idle."""

    connections: int
    channels: int
    queues: int
    consumers: int
    through_proxy: int
    in_flight: float
    files: tuple[int, ...]


@pytest.fixture
def proxied(broker: Broker, stack: ExitStack) -> tuple[Cluster, Proxy]:
    proxy = stack.enter_context(Proxy(broker.port))
    url = broker.url_through(proxy.port)
    return with_a_worker(Cluster(broker, stack, MODELYARD_AMQP_URL=url)), proxy


def held(cluster: Cluster, proxy: Proxy) -> Held:
    counts = cluster.broker.control("eval", COUNT).strip("{}\n").split(",")
    connections, channels, queues, consumers = map(int, counts)
    members = (cluster.gateway, *cluster.workers)
    return Held(
        connections=connections,
        channels=channels,
        queues=queues,
        consumers=consumers,
        through_proxy=proxy.connections,
        in_flight=cluster.gateway.metric("modelyard_in_flight"),
        files=tuple(psutil.Process(m.process.pid).num_fds() for m in members),
    )


def settled(cluster: Cluster, proxy: Proxy) -> Held | None:
    """Give what is held, once it stays the same: the broker notices late that one has gone."""
    found = held(cluster, proxy)
    return found if found == held(cluster, proxy) else None


def memory_bytes(*members: Member) -> list[int]:
    return [psutil.Process(m.process.pid).memory_info().rss for m in members]


async def leave_half_way(url: str) -> None:
    """Ask on some connections, and be gone before an answer."""
    body = b'{"model_name": "trick_model", "input_data": [{"nonce": 1}]}'
    for _ in range(20):
        async with await connect(url) as line:
            asked = asyncio.create_task(line.ask(request_bytes(body)))
            await asyncio.sleep(0)
            asked.cancel()


def test_row_30_faults_leave_nothing_behind(proxied: tuple[Cluster, Proxy]) -> None:
    cluster, proxy = proxied
    members = (cluster.gateway, *cluster.workers)
    (worker,) = cluster.workers
    sizes: list[list[int]] = []

    def strike() -> bool:
        proxy.reset()
        asyncio.run(leave_half_way(cluster.gateway.url))
        cluster.wait_until_serving()
        for runner in worker.runners():
            os.kill(runner.pid, signal.SIGKILL)
        cluster.wait_until_serving()
        sizes.append(memory_bytes(*members))
        return True

    load(cluster, Every(0.2, 2, strike))  # what is made once is there now
    before = wait_until(lambda: settled(cluster, proxy), what="all to be quiet")
    load(cluster, Every(0.2, 8, strike))
    print(before, [[size >> 10 for size in each] for each in sizes])
    wait_until(lambda: held(cluster, proxy) == before, what="all that was opened to be closed")
    for early, late in zip(sizes[1], sizes[-1], strict=True):
        assert late - early < GROWTH_BYTES


def load(cluster: Cluster, strikes: Every) -> None:
    ledger = Ledger(cluster.gateway.url, connections=8)
    ledger.run_until(strikes)
    ledger.check()
    cluster.wait_for_workers(1)
