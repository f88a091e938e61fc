"""A release under load: two gateways, two versions, and not one answer other than 200.

Numbers in names are the rows of the table of faults in ``docs/reliability.md``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aio_pika
import httpx
import pytest
from aio_pika.exceptions import ChannelPreconditionFailed

from modelyard.core.routes import Route, Snapshot
from modelyard.store.schema import place_of
from modelyard.transports.amqp import envelope
from modelyard.transports.amqp.topology import CARDS, ROUTES
from tests.support.broker import Broker
from tests.support.cluster import Cluster, copy_trick
from tests.support.postgres import Postgres
from tests.support.releases import (
    MODEL,
    OFFSETS,
    Load,
    Yard,
    run,
    wait_for_versions,
    with_stores_away,
)
from tests.support.server import Member, complaint_of, wait_until


class Released(NamedTuple):
    """Two gateways, and a worker for each of two versions."""

    cluster: Cluster
    urls: list[str]
    settings: dict[str, str]

    async def route(self, *arguments: str) -> None:
        """Run `modelyard route …`, which succeeds."""
        await asyncio.to_thread(run, self.settings, "route", *arguments, "--url", self.urls[0])


@pytest.fixture(scope="module")
def released(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Released]:
    folder = tmp_path_factory.mktemp("releases")
    models = {
        version: copy_trick(folder, version=version, offset=offset)
        for version, offset in OFFSETS.items()
    }
    with ExitStack() as stack:
        postgres = stack.enter_context(Postgres())
        settings = {
            "MODELYARD_DATABASE_URL": postgres.url,
            "MODELYARD_STATE_FOLDER": str(folder / "state"),
        }
        run(settings, "store", "upgrade")
        cluster = Cluster(broker, stack, folder=models["1"], **settings)
        other = cluster.start_gateway()
        for folder_of_version in models.values():
            cluster.start_worker(folder=folder_of_version)
        gateways = [cluster.gateway, other]
        wait_for_versions(gateways, models)
        yield Released(cluster, [gateway.url for gateway in gateways], settings)


async def test_a_canary_is_shifted_promoted_and_rolled_back_under_load(released: Released) -> None:
    load, route = Load(released.urls), released.route
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
        await route("promote", MODEL, "1", "--keep-warm", "1h")
        await load.wait_for("1")
        load.end()
    assert not load.wrong
    assert min(load.versions().values()) > 50
    first = released.urls[0]
    await asyncio.to_thread(wait_until, lambda: demand(first, "1") == 0, what="nothing to do")
    assert demand(first, "2") > 0  # so no autoscaler takes its last worker


@pytest.mark.own_broker
async def test_a_gateway_that_cannot_read_the_store_gets_its_routes_from_another(
    released: Released, tmp_path: Path
) -> None:
    route, broker = released.route, released.cluster.broker
    settings = {
        "MODELYARD_AMQP_URL": broker.url,
        # The same database, and a user whom it does not know.
        "MODELYARD_DATABASE_URL": released.settings["MODELYARD_DATABASE_URL"].replace(
            "modelyard@", "nobody@"
        ),
        "MODELYARD_STATE_FOLDER": str(tmp_path),
    }
    await route("promote", MODEL, "1")
    with Member("gateway", settings=settings) as cut_off:

        def answers(version: str) -> bool:
            asked = [cut_off.predict(MODEL, [{"nonce": 1}]) for _ in range(10)]
            return {one.json()["model_version"] for one in asked} == {version}

        async def wait_for(condition: Callable[[], Any], what: str) -> None:
            await asyncio.to_thread(wait_until, condition, what=what)

        await wait_for(lambda: cut_off.http.get("/readyz").is_success, "the gateway")
        await wait_for(lambda: answers("1"), "the routes of another")
        await route("promote", MODEL, "2")
        await wait_for(lambda: answers("2"), "what has changed since")
        store = place_of(settings["MODELYARD_DATABASE_URL"])
        await forge(broker, envelope.Told(store, Snapshot(1 << 40, {MODEL: Route({"1": 100})})))
        await wait_for(lambda: cut_off.events("routes_not_believed"), "a word of it")
        assert answers("2")
        await route("promote", MODEL, "1")
        await wait_for(lambda: answers("1"), "that it still believes the others")


async def forge(broker: Broker, told: envelope.Told) -> None:
    """Tell routes as another user of the broker, who may publish wherever a gateway may."""
    user = "a-worker"
    await asyncio.to_thread(broker.control, "add_user", user, user)
    await asyncio.to_thread(broker.control, "set_permissions", user, ".*", ".*", ".*")
    parts = urlsplit(broker.url)
    url = f"amqp://{user}:{user}@{parts.hostname}:{parts.port}{parts.path}"
    async with await aio_pika.connect(url) as connection:
        for claimed in (None, user, parts.username or "guest"):
            channel = await connection.channel()
            place = await channel.get_exchange(CARDS, ensure=False)
            message = aio_pika.Message(
                bytes(envelope.encode(told)), type=envelope.ROUTES, user_id=claimed
            )
            if claimed in (None, user):
                await place.publish(message, ROUTES, mandatory=False)
                continue
            with pytest.raises(ChannelPreconditionFailed):
                await place.publish(message, ROUTES, mandatory=False)


def demand(url: str, version: str) -> float:
    answer = httpx.get(f"{url}/models/{MODEL}/versions/{version}/demand")
    return float(answer.json()["runners"])


async def test_row_32_what_starts_while_the_stores_are_away_fails_no_request(
    broker: Broker, tmp_path: Path, stack: ExitStack
) -> None:
    yard = Yard(stack, broker, tmp_path)
    load = await with_stores_away(yard)
    assert not load.wrong
    kept = tmp_path / "state" / "keys.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert yard.key not in kept.read_text()
    yard.stop_stores()
    elsewhere = {"MODELYARD_DATABASE_URL": yard.postgres.url.replace("modelyard@", "other@")}
    for settings in (elsewhere, {"MODELYARD_STATE_FOLDER": str(tmp_path / "new")}):
        own = {"MODELYARD_AMQP_URL": broker.url, **yard.settings, **settings}
        assert "the keys cannot be read" in complaint_of("gateway", settings=own)
    no_digest = str(yard.names["1"]).rpartition("@")[0]
    assert "connection" in complaint_of("worker", no_digest, settings=yard.settings)
