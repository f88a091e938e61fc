"""Releases under load: two versions of ``trick_model``, and callers that see which one answers."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from tests.support import preloaded
from tests.support.broker import Broker
from tests.support.cluster import Cluster, copy_trick
from tests.support.keys import Keys
from tests.support.postgres import Postgres
from tests.support.raw import Line, connect, request_bytes
from tests.support.s3 import S3
from tests.support.server import Member, wait_until

MODEL = "trick_model"
OFFSETS = {"1": 1, "2": 2}
"""What each version adds, so that it shows which one has answered: see ``copy_trick``."""


class Seen(NamedTuple):
    """One answer.

    Attributes:
        at: When it was asked for, on the monotonic clock.
        url: Of the gateway.
        version: That it names; empty if it is none of a version.
        wrong: What it should not be; empty if all is well.
    """

    at: float
    url: str
    version: str
    wrong: str = ""


class Load:
    """Asks on and on at all gateways, and keeps what they answer.

    Args:
        urls: Of the gateways. The list may change meanwhile.
        connections: How many requests are under way at any time.
        key: That the gateways ask for.
    """

    def __init__(self, urls: list[str], *, connections: int = 32, key: str = "") -> None:
        self.urls = urls
        self.seen: list[Seen] = []
        self._connections = connections
        self._headers = (f"x-api-key: {key}",) if key else ()
        self._is_over = False
        self._wanted = 0
        self._has_them = asyncio.Event()

    @property
    def wrong(self) -> list[str]:
        """What was answered, and should not have been."""
        return [one.wrong for one in self.seen if one.wrong]

    def versions(self, *, since: float = 0.0) -> Counter[str]:
        """How many answers each version has made."""
        return Counter(one.version for one in self.seen if one.at >= since)

    async def run(self) -> None:
        """Ask until ``end``."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._connections):
                group.create_task(self._ask_on(number))

    def end(self) -> None:
        """Let each connection finish."""
        self._is_over = True

    async def wait_for(self, *versions: str) -> None:
        """Wait until each gateway answers by just these versions, 40 times in a row."""
        since = time.monotonic()

        def just_these() -> bool:
            nonlocal since
            began, now = since, time.monotonic()
            lately: dict[str, Counter[str]] = {url: Counter() for url in self.urls}
            for one in reversed(self.seen):
                if one.at < began:
                    break
                lately.setdefault(one.url, Counter())[one.version] += 1
            if any(lately[url].total() < 40 for url in self.urls):
                return False
            since = now
            return all(set(lately[url]) == set(versions) for url in self.urls)

        await asyncio.to_thread(wait_until, just_these, what=f"{versions} everywhere")

    async def wait_for_more(self, count: int) -> list[Seen]:
        """Wait for so many more answers, and give them."""
        before = len(self.seen)
        self._wanted = before + count
        self._has_them.clear()
        await self._has_them.wait()
        return self.seen[before:]

    async def _ask_on(self, number: int) -> None:
        nonce = number * 1_000_000
        while not self._is_over:
            url = self.urls[number % len(self.urls)]
            async with await connect(url) as line:
                while line.is_open and url in self.urls and not self._is_over:
                    nonce += 1
                    self.seen.append(await self._ask(line, url, nonce))
                    if len(self.seen) >= self._wanted:
                        self._has_them.set()

    async def _ask(self, line: Line, url: str, nonce: int) -> Seen:
        body = {"model_name": MODEL, "input_data": [{"nonce": nonce}]}
        at = time.monotonic()
        try:
            answer = await line.ask(request_bytes(json.dumps(body).encode(), *self._headers))
        except (OSError, EOFError) as error:
            line.close()
            return Seen(at, url, "", f"{url}: {error!r}")
        if answer.status != 200:
            return Seen(at, url, "", f"{url}: {answer}")
        version = answer.json["model_version"]
        is_right = answer.json["prediction"] == [nonce * 3 + OFFSETS[version]]
        return Seen(at, url, version, "" if is_right else f"{url}: {answer}")


def run(settings: Mapping[str, str], *arguments: str) -> str:
    """Run `modelyard …`, which succeeds; give what it prints."""
    done = preloaded.run(*arguments, env={**os.environ, **settings})
    assert done.returncode == 0, done.stderr
    return done.stdout


def wait_for_versions(gateways: Iterable[Member], versions: Iterable[str]) -> None:
    """Wait until each gateway knows of these versions."""
    wanted = set(versions)

    def knows(gateway: Member) -> bool:
        found = gateway.http.get(f"/models/{MODEL}").json().get("versions", [])
        return {one["version"] for one in found if one["state"] == "ready"} == wanted

    for gateway in gateways:
        wait_until(lambda gateway=gateway: knows(gateway), what=f"{wanted}")  # type: ignore[misc]


class Yard:
    """A cluster whose keys, routes and registry are in PostgreSQL, and whose artefacts in S3."""

    def __init__(self, stack: ExitStack, broker: Broker, folder: Path) -> None:
        self.postgres = stack.enter_context(Postgres())
        self.s3 = stack.enter_context(S3())
        keys = Keys(folder / "state", database_url=self.postgres.url)
        self.settings = {
            **self.s3.settings,
            **keys.settings,
            "MODELYARD_MODEL_CACHE_FOLDER": str(folder / "models"),
        }
        run(self.settings, "store", "upgrade")
        self.key = keys.create("shop", "predict:*", "read")
        for version, offset in OFFSETS.items():
            pushed = copy_trick(folder, version=version, offset=offset)
            run(self.settings, "registry", "push", str(pushed))
        self.names = {
            one["version"]: Path(f"{MODEL}@{one['version']}@{one['digest']}")
            for one in json.loads(run(self.settings, "registry", "list", "--json"))
        }
        self.cluster = Cluster(broker, stack, folder=folder, **self.settings)
        self.gateways = [self.with_key(self.cluster.gateway)]
        self.workers = [self.cluster.start_worker(folder=name) for name in self.names.values()]
        weights = [f"{version}=50" for version in self.names]
        run(self.settings, "route", "set", MODEL, *weights)

    def with_key(self, gateway: Member) -> Member:
        """Let requests to a gateway have the key."""
        gateway.http.headers["x-api-key"] = self.key
        return gateway

    def stop_stores(self) -> None:
        """Let neither the database nor the artefacts be there."""
        self.postgres.stop()
        self.s3.stop()


async def with_stores_away(yard: Yard, *, seconds: float = 0) -> Load:
    """Stop the stores under load, and start a gateway and a worker anew meanwhile."""
    (first,) = yard.gateways
    stopping = yard.workers[0]
    load = Load([first.url], connections=16, key=yard.key)

    def start_again() -> Member:
        yard.stop_stores()
        stopping.stop()
        yard.cluster.start_worker(folder=yard.names["1"])
        gateway = yard.with_key(yard.cluster.start_gateway())
        wait_for_versions([gateway], yard.names)
        return gateway

    async with asyncio.TaskGroup() as group:
        group.create_task(load.run())
        await load.wait_for("1", "2")
        second = await asyncio.to_thread(start_again)
        load.urls.append(second.url)
        load.urls.remove(first.url)
        await load.wait_for("1", "2")
        await asyncio.to_thread(first.stop)
        await asyncio.sleep(seconds)
        assert second.predict(MODEL, [{"nonce": 1}], headers={"x-api-key": "mdy_1"}).is_error
        assert second.http.get("/registry/models").status_code == 503
        await asyncio.to_thread(yard.postgres.restart)
        await asyncio.to_thread(run, yard.settings, "route", "promote", MODEL, "2", "--unchecked")
        await load.wait_for("2")
        load.end()
    assert second.http.get("/registry/models").status_code == 200
    assert {one["keys"] for one in second.events("keys_read_from_copy")} == {1}
    return load
