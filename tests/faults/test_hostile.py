"""A user of the broker who publishes junk wherever a worker's or a gateway's user may."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Iterator
from typing import Any

import aio_pika
import httpx
from aio_pika.abc import AbstractChannel

from modelyard.core.errors import Unavailable
from modelyard.core.manifest import Limits
from modelyard.core.messages import Schema
from modelyard.core.names import Target
from modelyard.transports.amqp import envelope
from modelyard.transports.amqp.topology import (
    CARDS,
    CATALOG,
    HELLO,
    KEPT,
    REPLIES,
    REQUESTS,
    ROUTES,
    SENT,
)
from tests.support.cluster import QUEUE, Cluster, sessions_lost
from tests.support.ledger import answer_of

PLACES = [
    (REQUESTS, QUEUE),
    (REQUESTS, f"{QUEUE}:high"),
    (CATALOG, ""),
    (CARDS, SENT),
    (CARDS, KEPT),
    (CARDS, ROUTES),
    (HELLO, ""),
]
KINDS = ["BUNDLE", "ANSWERS", "REFUSAL", "STATUS", "CARD", "HELLO", "PING"]
KINDS += ["ROUTES"]
TYPES = [*(str(getattr(envelope, name)) for name in KINDS), "modelyard.bundle.99", "", None]
NAMES = ["trick_model", "../../etc/passwd", "a\nb", "x" * 5_000, "", '"}', "other"]
WILD = [math.nan, math.inf, -math.inf, -1.0, 1e300, "1", None, [], 2**63]
PAGES = ["/models", "/models/trick_model", "/openapi.json", "/metrics", "/readyz", "/v2/models"]


def bodies(chance: random.Random) -> Iterator[bytes]:
    """Give what is no message of ours, or none with a sense."""
    yield b""
    for size in (1, 4, 5, 50, 5_000, 500_000):
        yield chance.randbytes(size)
    contents: list[Any] = [{}, [], [[]], "text", [[[]]] * 100, {"target": 1}, -(2**63)]
    yield from (bytes(envelope.encode(content)) for content in contents)


def statuses() -> Iterator[bytes]:
    """Give statuses of one wild value each."""
    plain: list[Any] = ["eve", "host", ["trick_model", "1"], "card", "ready", "", 1, 1, 0, 0.1]
    for name in NAMES:
        for version in ("1", name):
            target = {"name": name, "version": version}
            yield bytes(envelope.encode([*plain[:2], target, *plain[3:], False, None]))
            yield bytes(envelope.encode([*plain[:2], target, *plain[3:], False, 1e300]))
    target = {"name": "trick_model", "version": "1"}
    for place in range(len(plain)):
        for value in WILD:
            changed: list[Any] = [*plain[:2], target, *plain[3:]]
            changed[place] = value
            yield bytes(envelope.encode([*changed, False, None]))


def cards() -> Iterator[bytes]:
    """Give cards of one wild value each."""
    json = (b"", b"{", b"[]", b"null", b'{"$ref": "#/nothing"}', b"[" * 100_000, b"\xff")
    for name in NAMES:
        card = envelope.Card(
            Target(name, "1"), "", Limits(), 0, 1, scale_to_zero=True, digest="", schema=None
        )
        yield bytes(envelope.encode(card))
    for text in json:
        for schema in (Schema(text, b"{}", b"1"), Schema(b"{}", text, b"1")):
            yield bytes(envelope.encode(_other(schema=schema)))
        yield bytes(envelope.encode(_other(schema=Schema(b"{}", b"{}", text, text))))
    for value in WILD:
        yield bytes(envelope.encode(_other(cache_ttl_s=value)))
        yield bytes(envelope.encode(_other(max_batch_size=value)))
        yield bytes(envelope.encode(_other(target_wait_s=value)))
        yield bytes(envelope.encode(_other(limits={"timeout_s": value})))


def _other(**changes: Any) -> dict[str, Any]:
    card = {
        "target": {"name": "other", "version": "1"},
        "description": "<script>",
        "limits": {},
        "cache_ttl_s": 0.0,
        "max_batch_size": 1,
        "scale_to_zero": True,
        "digest": "",
        "schema": None,
    }
    return card | changes


def forged(keys: range) -> Iterator[tuple[str, str, bytes]]:
    """Give answers and refusals by others' keys: type, correlation id, body."""
    answers = [envelope.Answer(key, b"[666]") for key in keys]
    yield envelope.ANSWERS, "1", bytes(envelope.encode(answers))
    for key in keys:
        failure = Unavailable("forged").to_failure()
        yield envelope.REFUSAL, str(key), bytes(envelope.encode(failure))


class Hostile:
    """Publishes, as fast as the broker takes it."""

    def __init__(self, channel: AbstractChannel) -> None:
        self._channel = channel

    async def publish(
        self, exchange: str, key: str, body: bytes, kind: str | None, **more: Any
    ) -> None:
        """Publish one message."""
        place = await self._channel.get_exchange(exchange, ensure=False)
        message = aio_pika.Message(body, type=kind, **more)
        await place.publish(message, key, mandatory=False)

    async def junk(self, reply_to: str) -> None:
        """Publish all kinds of junk at all places."""
        chance = random.Random(1)
        for exchange, key in [*PLACES, (REPLIES, reply_to)]:
            for kind in TYPES:
                for body in bodies(chance):
                    await self.publish(exchange, key, body, kind, reply_to=reply_to)
            giant = {"h" * 100: "v" * 100_000}
            await self.publish(exchange, key, b"", TYPES[0], headers=giant)
        for body in statuses():
            await self.publish(CATALOG, "", body, envelope.STATUS)
        for number, body in enumerate(cards()):
            await self.publish(CARDS, KEPT if number % 2 else SENT, body, envelope.CARD)
        for deadline in WILD:
            for items in ([[7, "id", b"[1]", deadline]], [[7, "id", b"\xc1", 1e300, "v2"]]):
                body = bytes(envelope.encode(items))
                named = {"reply_to": reply_to, "correlation_id": "1"}
                await self.publish(REQUESTS, QUEUE, body, envelope.BUNDLE, **named)


async def test_junk_of_another_user_of_the_broker_harms_nobody(cluster: Cluster) -> None:
    (worker,), gateway = cluster.workers, cluster.gateway

    async def ask(nonce: int, **trick: Any) -> httpx.Response:
        return await asyncio.to_thread(cluster.ask, nonce, **trick)

    async with await aio_pika.connect(cluster.broker.url) as connection:
        channel = await connection.channel()
        listening = await channel.declare_queue(exclusive=True)
        await listening.bind(REQUESTS, QUEUE)
        assert (await ask(1)).status_code == 200
        heard = await listening.get(timeout=10)
        assert heard is not None
        reply_to = heard.reply_to
        assert reply_to
        hostile = Hostile(channel)
        busy = [asyncio.create_task(ask(n, act="work", seconds=1)) for n in range(8)]
        await asyncio.sleep(0.3)
        for kind, bundle, body in forged(range(500)):
            await hostile.publish(REPLIES, reply_to, body, kind, correlation_id=bundle)
        for nonce, asked in enumerate(busy):
            assert (await asked).json()["prediction"] == [answer_of(nonce)]
        junk = asyncio.create_task(hostile.junk(reply_to))
        nonce = 100
        while not junk.done() or nonce < 120:
            assert (await ask(nonce)).json()["prediction"] == [answer_of(nonce)]
            nonce += 1
        await junk
    fresh = await asyncio.to_thread(cluster.start_gateway)  # which reads the cards that were kept
    for member in (gateway, fresh):
        for page in PAGES:
            assert member.http.get(page).status_code == 200, page
        names = {model["name"] for model in member.http.get("/models").json()["models"]}
        assert names <= {"trick_model", "other"}
    for member in (gateway, fresh, worker):
        assert sessions_lost(member) == 0
        assert "Traceback" not in member.output
    assert "bundle_refused" in worker.output
    assert "answer_unreadable" in gateway.output
