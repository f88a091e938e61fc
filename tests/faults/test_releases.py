"""A release under load: two gateways, two versions, and not one answer other than 200."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from tests.support.broker import Broker
from tests.support.cluster import Cluster, copy_trick
from tests.support.postgres import Postgres
from tests.support.raw import connect, request_bytes
from tests.support.server import MODELYARD, wait_until

MODEL = "trick_model"
OFFSETS = {"1": 1, "2": 2}


class Released(NamedTuple):
    """Two gateways, and a worker for each of two versions."""

    urls: list[str]
    database_url: str

    def route(self, *arguments: str) -> None:
        """Run `modelyard route …`, which succeeds."""
        done = subprocess.run(
            [MODELYARD, "route", *arguments, "--url", self.urls[0]],
            env={**os.environ, "MODELYARD_DATABASE_URL": self.database_url},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


class Load:
    """Asks on and on at all gateways; what answered, by gateway and version."""

    def __init__(self, urls: list[str], connections: int = 32) -> None:
        self._urls = urls
        self._connections = connections
        self._is_over = False
        self.total = Counter[str]()
        self.lately: dict[str, Counter[str]] = {url: Counter() for url in urls}

    async def run(self) -> None:
        """Ask until ``end``."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._connections):
                group.create_task(self._ask(self._urls[number % len(self._urls)], number))

    def end(self) -> None:
        """Let each connection finish."""
        self._is_over = True

    async def _ask(self, url: str, number: int) -> None:
        async with await connect(url) as line:
            nonce = number * 1_000_000
            while not self._is_over:
                nonce += 1
                body = {"model_name": MODEL, "input_data": [{"nonce": nonce}]}
                answer = await line.ask(request_bytes(json.dumps(body).encode()))
                assert answer.status == 200, answer
                version = answer.json["model_version"]
                assert answer.json["prediction"] == [nonce * 3 + OFFSETS[version]]
                self.total[version] += 1
                self.lately[url][version] += 1

    async def wait_for(self, *versions: str) -> None:
        """Wait until just these versions answer, at each gateway."""

        def just_these() -> bool:
            seen = [counter.copy() for counter in self.lately.values()]
            for counter in self.lately.values():
                if counter.total() >= 40:
                    counter.clear()
            return all(c.total() >= 40 and set(c) == set(versions) for c in seen)

        await asyncio.to_thread(wait_until, just_these, what=f"{versions} everywhere")


@pytest.fixture(scope="module")
def released(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Released]:
    folder = tmp_path_factory.mktemp("releases")
    models = {
        version: copy_trick(folder, version=version, offset=offset)
        for version, offset in OFFSETS.items()
    }
    with ExitStack() as stack:
        postgres = stack.enter_context(Postgres())
        settings = {"MODELYARD_DATABASE_URL": postgres.url}
        subprocess.run([MODELYARD, "store", "upgrade"], env={**os.environ, **settings}, check=True)
        cluster = Cluster(broker, stack, folder=models["1"], **settings)
        other = cluster.start_gateway()
        for folder_of_version in models.values():
            cluster.start_worker(folder=folder_of_version)
        urls = [cluster.gateway.url, other.url]
        for gateway in (cluster.gateway, other):
            wait_until(
                lambda gateway=gateway: (
                    len(  # type: ignore[misc]
                        gateway.http.get(f"/models/{MODEL}").json().get("versions", [])
                    )
                    == len(models)
                ),
                what="both versions",
            )
        yield Released(urls, postgres.url)


async def test_a_canary_is_shifted_promoted_and_rolled_back_under_load(released: Released) -> None:
    load = Load(released.urls)

    def route(*arguments: str) -> asyncio.Future[None]:
        return asyncio.ensure_future(asyncio.to_thread(released.route, *arguments))

    async with asyncio.TaskGroup() as group:
        group.create_task(load.run())
        await route("promote", MODEL, "1")
        await load.wait_for("1")
        await route("set", MODEL, "1=80", "2=20")
        await load.wait_for("1", "2")
        await route("promote", MODEL, "2")
        await load.wait_for("2")
        await route("rollback", MODEL)
        await load.wait_for("1", "2")
        await route("rollback", MODEL)
        await load.wait_for("2")
        load.end()
    assert min(load.total.values()) > 50
