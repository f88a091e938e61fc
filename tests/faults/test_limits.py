"""Limits of keys over two gateways, with and without Redis, and turns of callers."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from modelyard.access.keys import digest_of, new_key
from tests.support.broker import Broker
from tests.support.cache import RedisServer
from tests.support.cluster import Cluster, copy_trick
from tests.support.raw import connect, request_bytes
from tests.support.server import Server, wait_until

RATE = 10
BATCH = 16
OFTEN = ("a", "b", "c")
FREE = ("often", "rarely")


class Limited(NamedTuple):
    """Two gateways that ask for keys, and share limits through Redis."""

    gateways: list[str]
    redis: RedisServer
    keys: dict[str, str]


def copy_model(to: Path) -> Path:
    """Copy the model, so that more than 400 requests may be in flight."""
    folder = copy_trick(to)
    manifest = folder / "model.toml"
    manifest.write_text(manifest.read_text().replace("in_flight = 200", "in_flight = 1000"))
    return folder


def write_keys(path: Path) -> dict[str, str]:
    """Write a file of keys, and return them."""
    keys = {name: new_key() for name in (*OFTEN, *FREE)}
    path.write_text(
        "".join(
            f'[[keys]]\nid = "{name}"\ndigest = "{digest_of(key)}"\nowner = "{name}"\n'
            'scopes = ["predict:*", "read"]\n' + (f"rate = {RATE}\n" if name in OFTEN else "")
            for name, key in keys.items()
        )
    )
    return keys


@pytest.fixture(scope="module")
def limited(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    folder = tmp_path_factory.mktemp("limits")
    keys = write_keys(folder / "keys.toml")
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer(folder))
        settings = {
            "MODELYARD_AUTH": "keys",
            "MODELYARD_KEYS_FILE": str(folder / "keys.toml"),
            "MODELYARD_REDIS_URL": redis.url,
            "MODELYARD_OPEN_PAGES": "models,metrics",
        }
        cluster = Cluster(broker, stack, folder=copy_model(folder), **settings)
        other = cluster.start_gateway()
        cluster.start_worker()
        urls = [cluster.gateway.url, other.url]
        for url in urls:
            wait_until(lambda url=url: ask(url, keys["rarely"]) == 200, what="answers")  # type: ignore[misc]
        yield Limited(urls, redis, keys)


def body_of(nonce: int, **trick: Any) -> dict[str, Any]:
    return {"model_name": "trick_model", "input_data": [{"nonce": nonce, **trick}]}


def ask(url: str, key: str) -> int:
    answer = httpx.post(f"{url}/predict", json=body_of(1), headers={"x-api-key": key})
    return answer.status_code


async def overload(limited: Limited, seconds: float) -> dict[str, Counter[int]]:
    """Ask with each of the three keys at both gateways, faster than they may; what came by key."""
    counts = {name: Counter[int]() for name in OFTEN}
    began = time.monotonic()

    async def go_on(client: httpx.AsyncClient, name: str, url: str) -> None:
        headers = {"x-api-key": limited.keys[name]}
        while (passed := time.monotonic() - began) < seconds + 2:
            answer = await client.post(f"{url}/predict", json=body_of(7), headers=headers)
            if passed > 2:  # by then bursts are gone, and gateways know of each other
                counts[name][answer.status_code] += 1
            await asyncio.sleep(0.005)

    async with httpx.AsyncClient(timeout=30) as client, asyncio.TaskGroup() as group:
        for name in OFTEN:
            for url in limited.gateways:
                group.create_task(go_on(client, name, url))
    return counts


async def test_two_gateways_share_a_rate_also_when_redis_stops(limited: Limited) -> None:
    seconds = 4
    for is_there in (True, False):
        if not is_there:
            limited.redis.kill()
        counts = await overload(limited, seconds)
        for name in OFTEN:
            assert set(counts[name]) == {200, 429}
            assert counts[name][200] == pytest.approx(RATE * seconds, rel=0.15), counts
    limited.redis.start()


async def test_one_caller_with_many_requests_does_not_hold_up_another(
    limited: Limited, tmp_path: Path
) -> None:
    await check_turns(limited.gateways[0], limited.keys, tmp_path / "diary")


async def test_so_it_is_on_one_machine(tmp_path: Path) -> None:
    settings = {
        "MODELYARD_AUTH": "keys",
        "MODELYARD_KEYS_FILE": str(tmp_path / "keys.toml"),
    }
    keys = write_keys(tmp_path / "keys.toml")
    with Server(copy_model(tmp_path), settings=settings) as server:
        await check_turns(server.url, keys, tmp_path / "diary")


async def check_turns(url: str, keys: dict[str, str], diary: Path) -> None:
    """Let one caller ask 400 times at once, in batches of 0.2 s; see when another has its turn."""

    def request(name: str, nonce: int) -> bytes:
        body = body_of(nonce, act="work", seconds=0.2 / BATCH, diary=str(diary))
        return request_bytes(json.dumps(body).encode(), f"x-api-key: {keys[name]}")

    async with AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(await connect(url)) for _ in range(401)]
        *often, rarely = lines
        for nonce, line in enumerate(often):
            line.send(request("often", nonce))
        assert (await often[0].answer()).status == 200
        for nonce in (1001, 1002):
            before = len(runs_in(diary))
            rarely.send(request("rarely", nonce))
            assert (await rarely.answer()).status == 200
            turn = runs_in(diary).index(str(nonce))
            assert before < 400 - 6 * BATCH, "the queue ended too early to tell"
            assert turn - before <= 5 * BATCH
        for line in often[1:]:
            assert (await line.answer()).status == 200


def runs_in(diary: Path) -> list[str]:
    """What ran so far, in its order."""
    return diary.read_text().splitlines()
