"""A cache that is slow, full, damaged or gone is a miss: never an error, never a wait.

Numbers in names are the rows of the table of faults in ``docs/reliability.md``.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from typing import NamedTuple

import pytest
from redis import Redis

from tests.faults.conftest import with_a_worker
from tests.support.broker import Broker
from tests.support.cache import RedisServer
from tests.support.cluster import Cluster, copy_trick
from tests.support.ledger import Every, Ledger, answer_of
from tests.support.proxy import Proxy
from tests.support.raw import Line, connect, request_bytes
from tests.support.server import wait_until


class Cached(NamedTuple):
    """A cluster whose gateway comes to Redis through a proxy."""

    cluster: Cluster
    redis: RedisServer
    proxy: Proxy

    def redis_events(self, event: str) -> float:
        return self.cluster.gateway.metric("modelyard_redis_events_total", event=event)

    def wait_until_hit(self, nonce: int) -> None:
        """Wait until the cache is asked again, and answers."""

        def is_hit() -> bool:
            return self.cluster.ask(nonce).headers["x-cache"] == "hit"

        wait_until(is_hit, what="a hit")


@pytest.fixture(scope="module")
def running(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cached]:
    """Redis, no memory cache, and a model whose answers may be kept."""
    folder = tmp_path_factory.mktemp("redis")
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer(folder))
        proxy = stack.enter_context(Proxy(redis.port))
        settings = {
            "MODELYARD_REDIS_URL": redis.url.replace(str(redis.port), str(proxy.port)),
            "MODELYARD_CACHE_BYTES": "0",
        }
        model = copy_trick(folder, ttl_s=60)
        yield Cached(with_a_worker(Cluster(broker, stack, folder=model, **settings)), redis, proxy)


nonces = count(1_000_000, 1000)


@pytest.fixture
def cached(running: Cached) -> Cached:
    """As it should be: an answer that was given once comes from the cache."""
    running.wait_until_hit(next(nonces))
    return running


def test_gateways_share_answers(cached: Cached) -> None:
    with ExitStack() as stack:
        other = cached.cluster.start_gateway(stack=stack)
        cached.cluster.wait_for_workers(1, other)
        first = cached.cluster.ask(7)
        assert first.headers["x-cache"] == "miss"
        wait_until(
            lambda: other.predict("trick_model", [{"nonce": 7}]).headers["x-cache"] == "hit",
            what="a hit at the other gateway",
        )
        assert other.predict("trick_model", [{"nonce": 7}]).json() == first.json()


def test_row_23_without_redis_answers_come_all_the_same(cached: Cached) -> None:
    skipped = cached.redis_events("skipped")
    with cached.redis.frozen():
        ledger = Ledger(cached.cluster.gateway.url, connections=8)
        ledger.run_until(lambda: cached.redis_events("skipped") > skipped)
        ledger.check()


def test_row_23_a_redis_that_is_killed_comes_back(cached: Cached) -> None:
    skipped = cached.redis_events("skipped")
    nonce = next(nonces)

    def kill_and_start() -> bool:
        cached.redis.kill()
        wait_until(lambda: cached.redis_events("skipped") > skipped, what="the breaker to open")
        cached.redis.start()
        cached.wait_until_hit(nonce)
        return True

    ledger = Ledger(cached.cluster.gateway.url, connections=8)
    ledger.run_until(Every(0.2, 1, kill_and_start))
    ledger.check()


@pytest.mark.parametrize("fault", ["reset", "cut", "drop", "corrupt", "refuse"])
def test_row_23_a_connection_that_breaks_is_a_miss(cached: Cached, fault: str) -> None:
    errors, proxy = cached.redis_events("error"), cached.proxy

    def break_it() -> bool:
        if fault == "drop":
            proxy.to_server.is_dropping = proxy.to_client.is_dropping = True
        elif fault == "cut":
            proxy.to_client.cut_after(2)
        elif fault == "corrupt":
            proxy.to_client.corrupt(1)
        elif fault == "refuse":
            proxy.refuse()
            proxy.reset()
        else:
            proxy.reset()
        return cached.redis_events("error") > errors

    ledger = Ledger(cached.cluster.gateway.url, connections=8)
    try:
        ledger.run_until(break_it)
    finally:
        proxy.heal()
    ledger.check()


def test_row_24_a_full_redis_keeps_nothing(cached: Cached) -> None:
    errors = cached.redis_events("error")
    with Redis.from_url(cached.redis.url) as client:
        client.config_set("maxmemory", "1")
        try:
            ledger = Ledger(cached.cluster.gateway.url, connections=8)
            ledger.run_until(lambda: cached.redis_events("error") > errors)
            ledger.check()
        finally:
            client.config_set("maxmemory", "0")


async def test_row_24_an_exhausted_pool_and_clients_that_leave_half_way(cached: Cached) -> None:
    gateway, first = cached.cluster.gateway, next(nonces)
    cached.proxy.to_client.delay_s = 0.03  # each call is under way for a while, as are its like
    lines = [await connect(gateway.url) for _ in range(100)]
    staying = [
        asyncio.create_task(line.ask(asking(first + n))) for n, line in enumerate(lines[::2])
    ]
    for n, line in enumerate(lines[1::2]):
        await leave_half_way(line, asking(first + 500 + n))
    answers = await asyncio.gather(*staying)
    cached.proxy.heal()
    for line in lines[::2]:
        line.close()
    assert Counter(answer.status for answer in answers) == {200: 50}
    assert [answer.json["prediction"] for answer in answers] == [
        [answer_of(first + n)] for n in range(50)
    ]
    await asyncio.to_thread(
        wait_until, lambda: gateway.metric("modelyard_in_flight") == 0, what="nothing under way"
    )
    assert cached.proxy.connections <= 8


def asking(nonce: int) -> bytes:
    body = {"model_name": "trick_model", "input_data": [{"nonce": nonce}]}
    return request_bytes(json.dumps(body).encode())


async def leave_half_way(line: Line, request: bytes) -> None:
    """Ask, and go before the answer can be there."""
    asked = asyncio.create_task(line.ask(request))
    await asyncio.sleep(0)
    asked.cancel()
    line.close()


def test_row_26_a_damaged_entry_is_a_miss(cached: Cached) -> None:
    nonce, damaged = next(nonces), cached.redis_events("damaged")
    cached.wait_until_hit(nonce)
    with Redis.from_url(cached.redis.url) as client:
        for key in client.keys("*"):
            client.set(key, b"damaged [666]")
    answer = cached.cluster.ask(nonce)
    assert answer.json()["prediction"] == [answer_of(nonce)]
    assert answer.headers["x-cache"] == "miss"
    assert cached.redis_events("damaged") == damaged + 1
