"""What every transport must do: the local one, and the one through a broker. That is a real
RabbitMQ, or the one in memory that the simulator uses.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from modelyard.compose.launching import make_launcher
from modelyard.core.batch import Priority
from modelyard.core.call import Call
from modelyard.core.errors import (
    DeadlineExceeded,
    GivenUp,
    InvalidInput,
    Malformed,
    ModelCrashed,
    ModelFailed,
    ModelNotReady,
)
from modelyard.core.messages import Request
from modelyard.core.names import Target
from modelyard.dispatch.interfaces import Transport
from modelyard.folder import read_manifest
from modelyard.pool.pool import AHEAD_S, Pool
from modelyard.settings import Settings
from modelyard.telemetry.metrics import Metrics
from modelyard.transports.amqp.address import parse_addresses
from modelyard.transports.amqp.consumer import AmqpConsumer
from modelyard.transports.amqp.lanes import Capacity
from modelyard.transports.amqp.session import Broker as Link
from modelyard.transports.amqp.transport import AmqpTransport
from modelyard.transports.local import LocalTransport
from tests.e2e.conftest import TRICK
from tests.simulation.serve import serving
from tests.support.broker import Broker
from tests.support.ledger import answer_of
from tests.support.server import PATIENCE_S, wait_until

TARGET = Target("trick_model", "1")


@asynccontextmanager
async def local() -> AsyncIterator[Transport]:
    """The local transport, before a real pool of real runners."""
    manifest = read_manifest(TRICK)
    transport = LocalTransport()
    pool = Pool(
        folder=TRICK,
        manifest=manifest,
        metrics=Metrics().of_pool(manifest.target),
        announce=lambda _: None,
        launch=make_launcher(Settings(), [manifest]).start,
        clock=time.monotonic,
    )
    async with pool:
        transport.connect(pool.target, pool.submit)
        await pool.settled()
        yield transport


def link_to(url: str, *, owner: str, metrics: Metrics) -> Link:
    """Give what a part needs to talk to the broker."""
    return Link(
        addresses=parse_addresses(url),
        owner=owner,
        metrics=metrics,
        clock=time.monotonic,
        wall_clock=time.time,
        chance=Random(),
    )


@asynccontextmanager
async def amqp(url: str) -> AsyncIterator[Transport]:
    """The transport through a broker, with a real pool behind it."""
    manifest, metrics = read_manifest(TRICK), Metrics()
    transport = AmqpTransport(
        link_to(url, owner="gateway", metrics=metrics),
        capacity=lambda _: Capacity(batch_size=16, runners=1),
        on_unroutable=lambda _: None,
    )
    pool = Pool(
        folder=TRICK,
        manifest=manifest,
        metrics=metrics.of_pool(manifest.target),
        announce=lambda _: None,
        launch=make_launcher(Settings(), [manifest]).start,
        clock=time.monotonic,
    )
    consumer = AmqpConsumer(
        link_to(url, owner="worker", metrics=metrics),
        target=manifest.target,
        queue_type="classic",
        prefetch=lambda: 2,
        submit=pool.submit,
        digest=lambda: pool.digest,
        on_consuming=lambda: None,
    )
    async with pool:
        runs = [asyncio.create_task(part.run()) for part in (transport, consumer)]
        await pool.settled()
        await asyncio.to_thread(
            wait_until, lambda: transport.is_connected and consumer.is_consuming, what="the broker"
        )
        yield transport
        await consumer.drain()
        assert transport.pending == 0
        for run in runs:
            run.cancel()
        await asyncio.wait(runs)


@asynccontextmanager
async def memory() -> AsyncIterator[Transport]:
    """The same through the broker in memory."""
    async with serving() as served, amqp(served.url) as transport:
        yield transport


@pytest.fixture(params=["local", "amqp", "memory"])
async def transport(request: pytest.FixtureRequest) -> AsyncIterator[Transport]:
    if request.param == "amqp":
        broker: Broker = request.getfixturevalue("broker")
        chosen = amqp(broker.url)
    else:
        chosen = local() if request.param == "local" else memory()
    async with chosen as transport:
        yield transport


def make(
    *tricks: object, raw: str | None = None, timeout_s: float = 30, priority: Priority = "normal"
) -> Request:
    """Give a request for ``trick_model``."""
    text = json.dumps(list(tricks)) if raw is None else raw
    deadline = time.monotonic() + timeout_s
    return Request("an-id", TARGET, memoryview(text.encode()), deadline, priority)


def send(transport: Transport, request: Request) -> asyncio.Future[bytes]:
    """Send a request whose answer can be awaited, and which can be cancelled."""
    answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def on_settled(call: Call) -> None:
        if answered.done():
            return
        if isinstance(call.outcome, bytes):
            answered.set_result(call.outcome)
        else:
            assert call.outcome is not None
            answered.set_exception(call.outcome)

    call = Call(request, on_settled)
    answered.add_done_callback(lambda _: call.settle(GivenUp("cancelled")))
    transport.send(call)
    return answered


async def test_answers_are_in_order_and_whole(transport: Transport) -> None:
    assert json.loads(await send(transport, make({"nonce": 1}, {"nonce": 2}))) == [4, 7]


async def test_each_asker_gets_its_own_answer(transport: Transport) -> None:
    answers = await asyncio.gather(*(send(transport, make({"nonce": n})) for n in range(200)))
    assert [json.loads(answer) for answer in answers] == [[answer_of(n)] for n in range(200)]


async def test_a_request_larger_than_a_batch_is_answered_whole(transport: Transport) -> None:
    answer = await send(transport, make(*({"nonce": n} for n in range(100))))
    assert json.loads(answer) == [answer_of(n) for n in range(100)]


async def test_a_large_request_and_answer_get_through(transport: Transport) -> None:
    answer = await send(transport, make(*({"nonce": n, "diary": ""} for n in range(50_000))))
    assert json.loads(answer) == [answer_of(n) for n in range(50_000)]


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        ("[1e999]", Malformed),
        ("[]", InvalidInput),
        ("{}", InvalidInput),
        ('[{"nonce":"x"}]', InvalidInput),
        ('[{"nonce":1,"act":"raise"}]', ModelFailed),
        ('[{"nonce":1,"act":"short"}]', ModelFailed),
        ('[{"nonce":1,"act":"exit"}]', ModelCrashed),
    ],
)
async def test_errors_keep_their_kind(
    transport: Transport, raw: str, error: type[Exception]
) -> None:
    mates = [send(transport, make({"nonce": n})) for n in range(8)]
    with pytest.raises(error):
        await send(transport, make(raw=raw))
    assert [json.loads(answer) for answer in await asyncio.gather(*mates)] == [
        [answer_of(n)] for n in range(8)
    ]


async def test_an_error_says_where(transport: Transport) -> None:
    with pytest.raises(InvalidInput) as caught:
        await send(transport, make({"nonce": 1}, {"nonce": "x"}))
    assert caught.value.where == "$.input_data[1].nonce"


async def test_a_cancelled_request_disturbs_nobody(transport: Transport) -> None:
    working = send(transport, make({"nonce": 1, "act": "work", "seconds": 0.3}))
    doomed, kept = send(transport, make({"nonce": 2})), send(transport, make({"nonce": 3}))
    doomed.cancel()
    assert json.loads(await kept) == [answer_of(3)]
    assert json.loads(await working) == [answer_of(1)]
    assert doomed.cancelled()


async def test_what_expires_while_it_waits_does_not_run(
    transport: Transport, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("diaries")
    running, diary = folder / "running", folder / "diary"
    work = {"nonce": 1, "act": "work", "seconds": 0.5, "diary": str(running)}
    working = send(transport, make(work))
    await asyncio.to_thread(wait_until, running.exists, what="the runner to be busy")
    late = send(transport, make({"nonce": 2, "diary": str(diary)}, timeout_s=0.1))
    with pytest.raises(DeadlineExceeded):
        await late
    await working
    assert not diary.exists()


async def seem_brief(transport: Transport) -> None:
    """Run brief batches until one seems so: then the next is handed over while one runs."""
    brief, began = {"nonce": 0, "act": "work", "seconds": 1.5 * AHEAD_S[0]}, 0.0
    async with asyncio.timeout(PATIENCE_S):
        while time.monotonic() - began > AHEAD_S[1]:  # on a busy machine
            began = time.monotonic()
            await send(transport, make(brief))


async def keep_busy(transport: Transport, *, until: Path) -> asyncio.Future[bytes]:
    """Have the runner of a model that seems brief run one request until that file is there."""
    busy = until.with_suffix("")
    await seem_brief(transport)
    waiting = send(transport, make({"nonce": 1, "act": "wait", "diary": str(busy)}))
    await asyncio.to_thread(wait_until, busy.exists, what="the runner to be busy")
    return waiting


async def test_a_brief_model_has_its_next_batch_while_it_runs_one(
    transport: Transport, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("diaries")
    diary, go = folder / "diary", folder / "busy.go"
    waiting = await keep_busy(transport, until=go)
    late = send(transport, make({"nonce": 0, "diary": str(diary)}, timeout_s=0.5))
    # Longer than any batch before, and than the grace after a deadline that has passed.
    long = {"nonce": 2, "act": "work", "seconds": 3, "diary": str(diary)}
    ahead = [send(transport, make(long))]
    ahead += [send(transport, make({"nonce": n, "diary": str(diary)})) for n in range(3, 17)]
    with pytest.raises(DeadlineExceeded):
        await late
    urgent = send(transport, make({"nonce": 17, "diary": str(diary)}, priority="high"))
    with pytest.raises(DeadlineExceeded):  # once it has got as far as that, so has the other
        await send(transport, make({"nonce": 0}, timeout_s=0.3, priority="high"))
    await asyncio.to_thread(go.touch)
    await asyncio.gather(waiting, *ahead, urgent)
    # Each ran once, what was late did not, and the urgent one found the next batch taken.
    assert [int(nonce) for nonce in diary.read_text("utf-8").split()] == list(range(2, 18))


async def test_of_what_lies_before_a_busy_runner_nothing_runs_late(
    transport: Transport, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("diaries")
    diary, go = folder / "diary", folder / "busy.go"
    waiting = await keep_busy(transport, until=go)
    late = [
        send(transport, make({"nonce": n, "diary": str(diary)}, timeout_s=0.2)) for n in range(16)
    ]
    outcomes = await asyncio.gather(*late, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [DeadlineExceeded] * 16
    await asyncio.to_thread(go.touch)
    await waiting
    await send(transport, make({"nonce": 2}))
    assert not diary.exists()


@pytest.mark.parametrize("act", ["exit", "hang"])
async def test_what_lies_before_a_runner_that_ends_is_answered(
    transport: Transport, tmp_path_factory: pytest.TempPathFactory, act: str
) -> None:
    diary = tmp_path_factory.mktemp("diaries") / "diary"
    tricks = [{"nonce": n, "diary": str(diary)} for n in range(32)]
    await seem_brief(transport)
    timeout_s = 0.3 if act == "hang" else 30
    ending = send(transport, make({"nonce": 0, "act": act}, timeout_s=timeout_s))
    mates = [send(transport, make(trick)) for trick in tricks]
    with pytest.raises(DeadlineExceeded if act == "hang" else ModelCrashed):
        await ending
    answers = await asyncio.gather(*mates)
    assert [json.loads(answer) for answer in answers] == [[answer_of(n)] for n in range(32)]
    runs = diary.read_text(encoding="utf-8").split()
    # All but those of the culprit's own batch ran once.
    assert len(runs) <= 32 + 16


async def test_an_unknown_target_is_not_ready(transport: Transport) -> None:
    nobody = Request("id", Target("nobody", "1"), memoryview(b"[]"), time.monotonic() + 5)
    with pytest.raises(ModelNotReady):
        await send(transport, nobody)
