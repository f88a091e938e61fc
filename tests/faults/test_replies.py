"""Answers on their way back: doubled, forged, homeless; and connections that break on the way.

Gateway and worker come to the broker through a proxy each. Numbers in names are the rows of the
table of faults in ``docs/reliability.md``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import aio_pika
import pytest

from modelyard.transports.amqp import envelope
from modelyard.transports.amqp.topology import REPLIES
from tests.support.broker import Broker
from tests.support.cluster import QUEUE, Cluster, events, pings_lost, sessions, sessions_lost
from tests.support.ledger import Every, Ledger, answer_of
from tests.support.proxy import Proxy, Way
from tests.support.server import Member, wait_until

pytestmark = pytest.mark.own_broker

BASIC_PUBLISH = b"\x00\x3c\x00\x28"  # class 60, method 40
BUNDLE = envelope.BUNDLE.encode()
BASIC_ACK = b"\x00\x3c\x00\x50"  # method 80


class Proxied(NamedTuple):
    """A cluster, and the proxies of its gateway and its worker."""

    cluster: Cluster
    of_gateway: Proxy
    of_worker: Proxy


@pytest.fixture(scope="module")
def running(broker: Broker) -> Iterator[Proxied]:
    with ExitStack() as stack:
        proxies = [stack.enter_context(Proxy(broker.port)) for _ in range(2)]
        urls = [broker.url_through(proxy.port) for proxy in proxies]
        cluster = Cluster(broker, stack, url=urls[0])
        cluster.start_worker(url=urls[1])
        cluster.wait_for_workers(1)
        yield Proxied(cluster, *proxies)


@pytest.fixture
def proxied(running: Proxied) -> Iterator[Proxied]:
    """All is well at the beginning, and again at the end."""
    running.cluster.wait_until_serving()
    yield running
    for proxy in (running.of_gateway, running.of_worker):
        proxy.heal()
    running.cluster.wait_until_serving()
    assert "RESOURCE_LOCKED" not in running.cluster.broker.log()


def test_row_8_an_ack_that_is_lost_makes_two_runs_and_one_answer(
    proxied: Proxied, tmp_path: Path
) -> None:
    cluster, diary = proxied.cluster, tmp_path / "diary"
    (worker,), cuts = cluster.workers, proxied.of_worker.to_server.cuts
    late = events("late", cluster.gateway)
    proxied.of_worker.to_server.cut_before(BASIC_ACK)
    answer = cluster.ask(5, diary=str(diary))
    assert answer.json()["prediction"] == [answer_of(5)]
    wait_until(lambda: proxied.of_worker.to_server.cuts == cuts + 1, what="the cut")
    wait_until(lambda: events("late", cluster.gateway) == late + 1, what="the second answer")
    assert diary.read_text().splitlines() == ["5", "5"]
    assert events("redelivered", worker) >= 1


async def test_row_9_junk_on_the_reply_queue_reaches_nobody(proxied: Proxied) -> None:
    cluster = proxied.cluster
    before = {event: events(event, cluster.gateway) for event in ("orphan", "late")}
    answers = [envelope.Answer(key, b"[666]") for key in range(900_000, 900_010)]
    forged = bytes(envelope.encode(answers))
    connection = await aio_pika.connect(cluster.broker.url)
    async with connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(REPLIES)
        for kind, body in [
            ("nonsense", b"x"),
            (envelope.ANSWERS, b"\xff\xff"),
            (envelope.ANSWERS, forged),
            (envelope.REFUSAL, bytes(envelope.encode(("x",)))),
        ]:
            junk = aio_pika.Message(body, type=kind)
            await exchange.publish(junk, reply_queue(cluster), mandatory=True)
    for nonce in range(20):
        answer = await asyncio.to_thread(cluster.ask, nonce)
        assert answer.json()["prediction"] == [answer_of(nonce)]
    assert events("orphan", cluster.gateway) == before["orphan"] + 3
    assert events("late", cluster.gateway) == before["late"] + 10


async def test_row_9_answers_that_nobody_can_read_are_not_asked_for_on_and_on(
    proxied: Proxied, tmp_path: Path
) -> None:
    cluster, diary = proxied.cluster, tmp_path / "diary"
    queue = reply_queue(cluster)
    orphans, before = events("orphan", cluster.gateway), events("resent", cluster.gateway)

    def resent() -> float:
        return events("resent", cluster.gateway) - before

    wait = [{"nonce": 5, "act": "wait", "diary": str(diary)}]
    asked = asyncio.create_task(asyncio.to_thread(cluster.gateway.predict, "trick_model", wait))
    await asyncio.to_thread(wait_until, diary.exists, what="the request to run")
    connection = await aio_pika.connect(cluster.broker.url)
    async with connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(REPLIES)
        junk = aio_pika.Message(b"\xff\xff", type=envelope.ANSWERS)
        for _ in range(100):
            await exchange.publish(junk, queue)
    await asyncio.to_thread(
        wait_until,
        lambda: events("orphan", cluster.gateway) == orphans + 100 and resent() > 0,
        what="the gateway to look at each, and to ask again",
    )
    await asyncio.to_thread(Path(f"{diary}.go").touch)
    answer = await asked
    assert answer.json()["prediction"] == [answer_of(5)]
    assert resent() <= 20  # once a second


def reply_queue(cluster: Cluster) -> str:
    listed = cluster.broker.control("list_queues", "name").splitlines()
    (name,) = (line for line in listed if line.startswith("replies."))
    return name


@pytest.mark.parametrize("fault", ["delete", "unbind"])
def test_row_20_a_reply_queue_that_is_gone_is_replaced(
    proxied: Proxied, tmp_path: Path, fault: str
) -> None:
    cluster, diary = proxied.cluster, tmp_path / "diary"
    resent = events("resent", cluster.gateway)
    orphans = events("orphan", *cluster.workers)
    queue = reply_queue(cluster)

    def spoil() -> bool:
        resource = f'rabbit_misc:r(<<"/">>, queue, <<"{queue}">>)'
        exchange = f'rabbit_misc:r(<<"/">>, exchange, <<"{REPLIES}">>)'
        if fault == "delete":
            deed = (
                f"{{ok, Q}} = rabbit_amqqueue:lookup({resource}), "
                'rabbit_amqqueue:delete(Q, false, false, <<"test">>).'
            )
        else:
            binding = f'{{binding, {exchange}, <<"{queue}">>, {resource}, []}}'
            deed = f'rabbit_binding:remove({binding}, <<"test">>).'
        print(cluster.broker.control("eval", deed))
        return True

    async def ask_and_spoil() -> None:
        asked = asyncio.create_task(asyncio.to_thread(cluster.ask, 5, act="wait", diary=str(diary)))
        await asyncio.to_thread(wait_until, diary.exists, what="it to run")
        await asyncio.to_thread(spoil)
        await asyncio.to_thread(
            wait_until,
            lambda: events("resent", cluster.gateway) == resent + 1,
            what="the gateway to have found it out",
        )
        await asyncio.to_thread(Path(f"{diary}.go").touch)
        answer = await asked
        assert answer.json()["prediction"] == [answer_of(5)]

    asyncio.run(ask_and_spoil())
    assert events("resent", cluster.gateway) == resent + 1
    assert events("orphan", *cluster.workers) == orphans + 1
    assert diary.read_text().splitlines() == ["5", "5"]
    assert reply_queue(cluster) != queue


def silence(proxy: Proxy, member: Member) -> None:
    """Let nothing through, and no news of it, until that is found out."""
    found = pings_lost(member)
    proxy.to_server.is_dropping = proxy.to_client.is_dropping = True
    wait_until(lambda: pings_lost(member) > found, what="the silence to be found")
    proxy.reset()
    proxy.heal()


def refuse(proxy: Proxy, member: Member) -> None:
    """Be away for some tries to come back."""
    before = len(member.events("broker_unreachable"))
    proxy.refuse()
    proxy.reset()

    def tries() -> int:
        return max(
            (one["tries"] for one in member.events("broker_unreachable")[before:]), default=0
        )

    wait_until(lambda: tries() >= 4, what="more tries")
    proxy.listen()


BREAKS: dict[str, Callable[[Proxy, Member], None]] = {
    "reset": lambda proxy, _: proxy.reset(),
    "cut on the way there": lambda proxy, _: proxy.to_server.cut_after(100),
    "cut on the way back": lambda proxy, _: proxy.to_client.cut_after(100),
    "refuse": refuse,
}


@pytest.mark.parametrize("side", ["gateway", "worker"])
@pytest.mark.parametrize("name", BREAKS)
def test_row_21_connections_that_break_cost_no_answer(
    proxied: Proxied, side: str, name: str
) -> None:
    check_that_all_are_answered(proxied, side, BREAKS[name])


def test_row_21_silence_is_found_and_costs_no_more_than_a_503(proxied: Proxied) -> None:
    check_that_all_are_answered(proxied, "gateway", silence, 503)


def test_row_21_a_bundle_that_vanishes_is_missed_at_the_next(proxied: Proxied) -> None:
    cluster, (worker,) = proxied.cluster, proxied.cluster.workers
    before = sessions_lost(worker)
    with ThreadPoolExecutor(1) as pool:
        proxied.of_worker.to_client.is_dropping = True
        vanished = pool.submit(cluster.ask, 5)
        dropped = proxied.of_worker.to_client.dropped
        wait_until(lambda: BUNDLE in dropped, what="the broker to deliver it")
        proxied.of_worker.heal()
        assert cluster.ask(6).json()["prediction"] == [answer_of(6)]
        assert vanished.result().json()["prediction"] == [answer_of(5)]
    assert sessions_lost(worker) > before


def test_row_21_a_worker_whose_bundles_all_vanish_serves_again(proxied: Proxied) -> None:
    cluster, (worker,) = proxied.cluster, proxied.cluster.workers
    before = sessions_lost(worker)
    with ThreadPoolExecutor(20) as pool:
        proxied.of_worker.to_client.is_dropping = True
        while waiting(cluster) == 0:
            pool.submit(cluster.ask, 7, timeout_s=20)
        proxied.of_worker.heal()
        wait_until(lambda: cluster.ask(8, timeout_s=1).status_code == 200, what="an answer")
    assert sessions_lost(worker) > before


def waiting(cluster: Cluster) -> int:
    """How many bundles have not been delivered."""

    async def count() -> int:
        connection = await aio_pika.connect(cluster.broker.url)
        async with connection:
            channel = await connection.channel()
            queue = await channel.declare_queue(QUEUE, passive=True)
            return queue.declaration_result.message_count or 0

    return asyncio.run(count())


def check_that_all_are_answered(
    proxied: Proxied, side: str, break_it: Callable[[Proxy, Member], None], *allowed: int
) -> None:
    """Break connections under load: they are opened again, and all answers come."""
    cluster, is_gateway = proxied.cluster, side == "gateway"
    proxy = proxied.of_gateway if is_gateway else proxied.of_worker
    member = cluster.gateway if is_gateway else cluster.workers[0]
    ledger = Ledger(cluster.gateway.url, connections=8)

    def strike() -> bool:
        before = sessions(member)
        break_it(proxy, member)
        wait_until(lambda: sessions(member) > before, what="a new session")
        wait_for_more(ledger)
        return True

    ledger.run_until(Every(0.2, 1, strike))
    ledger.check(*allowed)


def wait_for_more(ledger: Ledger) -> None:
    answered = ledger.statuses[200]
    wait_until(lambda: ledger.statuses[200] > answered + 20, what="more answers")


def test_row_21_slow_connections_cost_no_answer(proxied: Proxied) -> None:
    ledger = Ledger(proxied.cluster.gateway.url, connections=8)
    members = proxied.cluster.gateway, proxied.cluster.workers[0]
    before = [sessions_lost(member) for member in members]
    for proxy in (proxied.of_gateway, proxied.of_worker):
        proxy.to_server.delay_s = proxy.to_client.delay_s = 0.1
    ledger.run_until(lambda: ledger.statuses[200] > 50)
    ledger.check()
    assert [sessions_lost(member) for member in members] == before


@pytest.mark.parametrize("side", ["gateway", "worker"])
def test_row_21_a_damaged_frame_costs_no_answer(proxied: Proxied, side: str) -> None:
    def damage(proxy: Proxy, _: Member) -> None:
        proxy.to_server.corrupt_after(BASIC_PUBLISH[:-1])

    check_that_all_are_answered(proxied, side, damage)


@pytest.mark.parametrize(
    ("way", "before"), [("to_server", b'"nonce":'), ("to_client", b"\xc4\x04[")], ids=["in", "out"]
)
def test_row_21_damage_inside_a_message_is_found(proxied: Proxied, way: str, before: bytes) -> None:
    """A digit becomes another: what is left of it would be a fine request, or a fine answer."""
    damaged: Way = getattr(proxied.of_gateway, way)
    count = damaged.corrupted
    damaged.corrupt_after(before, mask=2)
    answer = proxied.cluster.ask(5)
    assert damaged.corrupted == count + 1
    assert answer.json().get("prediction") == [answer_of(5)]


def test_row_21_a_message_that_cannot_be_read_holds_up_nobody_else(proxied: Proxied) -> None:
    """The broker passes properties on unread: one with a name that is not UTF-8 as well."""
    cluster, (worker,) = proxied.cluster, proxied.cluster.workers
    before, refused = sessions(worker), events("refused", worker)
    proxied.of_gateway.to_server.corrupt_after(envelope.BUNDLE[:-1].encode())
    with ThreadPoolExecutor(1) as thread:
        asked = thread.submit(cluster.ask, 5, timeout_s=5)
        wait_until(lambda: events("refused", worker) > refused, what="the refusal")
        assert cluster.ask(6).status_code == 200
    assert asked.result().status_code == 504  # nobody can tell whose it was
    assert sessions(worker) == before
