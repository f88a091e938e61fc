"""What gateways tell each other of routes, over a real broker and the one in memory."""

from __future__ import annotations

import asyncio

from modelyard.core.routes import Snapshot
from modelyard.transports.amqp import envelope
from modelyard.transports.amqp.frames import Properties
from modelyard.transports.amqp.news import LARGEST_BYTES, RouteNews
from modelyard.transports.amqp.session import Session
from modelyard.transports.amqp.topology import (
    CARDS,
    ROUTES,
    declare_exchanges,
    declare_own_queue,
)
from tests.simulation.operators import SOON_S, Client, until


class Gateway:
    """One that follows a snapshot, and notes those that it hears of."""

    def __init__(self, client: Client, name: str, number: int, *, store: str = "all") -> None:
        self.snapshot = Snapshot(number)
        self.heard: list[int] = []
        self._client = client
        self._name = f"{client.queue}.{name}"
        self.news = RouteNews(
            client.as_part(self._name),
            store=store and f"{client.queue}.{store}",
            snapshot=lambda: self.snapshot,
            hear=lambda snapshot: self.heard.append(snapshot.number),
        )

    async def start(self) -> None:
        self.session = session = Session("guest")
        session.publishing = session.consuming = connection = await self._client.connect()
        await declare_exchanges(connection)
        queue = await declare_own_queue(connection, f"{self._name}.q", [(CARDS, ROUTES)])
        await connection.consume(queue, self.news.on_message, no_ack=True)
        self.news.on_open(session)


async def test_who_starts_is_told_what_there_is(client: Client) -> None:
    old, older, new = Gateway(client, "a", 7), Gateway(client, "b", 7), Gateway(client, "c", -1)
    for gateway in (old, older, new):
        await gateway.start()
    await until(lambda: 7 in new.heard)
    old.news.tell(Snapshot(8))
    await until(lambda: 8 in older.heard and 8 in new.heard)
    assert 8 not in old.heard  # nobody is told by himself


async def test_those_of_another_store_or_of_none_are_left_alone(client: Client) -> None:
    one, other = Gateway(client, "a", 7), Gateway(client, "b", -1, store="other")
    none = Gateway(client, "c", 3, store="")
    for gateway in (one, other, none):
        await gateway.start()
    one.news.tell(Snapshot(8))
    none.news.tell(Snapshot(9))
    await asyncio.sleep(SOON_S)
    assert (one.heard, other.heard, none.heard) == ([], [], [])


async def test_what_is_too_large_is_left_to_the_store(client: Client) -> None:
    one, other = Gateway(client, "a", 7), Gateway(client, "b", -1)
    for gateway in (one, other):
        await gateway.start()
    await until(lambda: other.heard == [7])
    one.news.tell(Snapshot(8, settings={"x" * LARGEST_BYTES: 1}))
    one.news.tell(Snapshot(9))
    await until(lambda: other.heard == [7, 9])


async def test_nothing_is_told_while_there_is_no_session(client: Client) -> None:
    one, other = Gateway(client, "a", 7), Gateway(client, "b", -1)
    for gateway in (one, other):
        await gateway.start()
    await until(lambda: other.heard == [7])
    one.news.on_lost()
    one.news.tell(Snapshot(8))
    one.news.on_open(one.session)
    one.news.tell(Snapshot(9))
    await until(lambda: other.heard[-1] == 9)
    assert 8 not in other.heard


async def test_who_cannot_prove_who_it_is_is_not_believed(client: Client) -> None:
    gateway = Gateway(client, "a", -1)
    await gateway.start()
    told = envelope.encode(envelope.Told(f"{client.queue}.all", Snapshot(5)))
    stranger = await client.connect()
    for user in (None, "guest"):
        await stranger.publish(
            told,
            exchange=CARDS,
            routing_key=ROUTES,
            properties=Properties(message_type=envelope.ROUTES, user_id=user, app_id="stranger"),
        )
        if user is None:
            await asyncio.sleep(SOON_S)
            assert gateway.heard == []
    await until(lambda: gateway.heard == [5])
