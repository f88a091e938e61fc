"""The client against real servers that are slow, full, killed or behind a network that fails.

The oracle is that of the trick model: a nonce is answered with f(nonce), so an answer to another
request would show.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from modelyard.client import (
    AsyncClient,
    Client,
    ConnectionFailed,
    DeadlineExceeded,
    ModelCrashed,
    Overloaded,
    Retry,
)
from tests.client.either import Connect
from tests.client.environment import ENVIRONMENT
from tests.e2e.conftest import TRICK
from tests.e2e.test_odd_models import write
from tests.support.proxy import Proxy
from tests.support.raw import address_of
from tests.support.server import Server, wait_until

QUICK = Retry(attempts=8, base_s=0.01)

WAITS = """\
import time
from pathlib import Path
from modelyard import Model

class Served(Model):
    def predict(self, instances: list[str]) -> list[str]:
        for name in instances:
            with Path(name).open("a") as diary:
                diary.write(".")
            while not Path(name + ".go").exists():
                time.sleep(0.01)
        return instances
"""


ECHO = """\
from modelyard import Model

class Served(Model):
    def predict(self, instances: list[str]) -> list[str]:
        return instances
"""


@pytest.fixture(scope="module")
def trick() -> Iterator[Server]:
    with Server(TRICK) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
        yield server


@pytest.fixture
def proxy(trick: Server) -> Iterator[Proxy]:
    with Proxy(address_of(trick.url)[1]) as proxy:
        yield proxy


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as thread:
        yield thread


def url_of(proxy: Proxy) -> str:
    return f"http://127.0.0.1:{proxy.port}"


def answer_to(nonce: int) -> int:
    return nonce * 3 + 1


def ask(connect: Connect, url: str, trick: dict[str, Any], **options: Any) -> Any:
    """Ask the trick model once."""
    with connect(url, retry=QUICK) as client:
        return client.predict("trick_model", [trick], **options)


def wait_for_line(diary: Path) -> None:
    wait_until(lambda: diary.exists() and diary.read_text(), what="the model to begin")


def test_the_gateway_says_that_the_deadline_passed(connect: Connect, trick: Server) -> None:
    slow = {"nonce": 1, "act": "work", "seconds": 0.5}
    with pytest.raises(DeadlineExceeded) as caught:
        ask(connect, trick.url, slow, timeout_s=0.1)
    assert caught.value.status == 504
    assert caught.value.request_id


def test_a_gateway_that_stands_still_is_not_waited_for(connect: Connect) -> None:
    with Server(TRICK) as server, server.frozen(), pytest.raises(DeadlineExceeded) as caught:
        ask(connect, server.url, {"nonce": 1}, timeout_s=0.1)
    assert caught.value.status is None


def test_an_answer_that_stops_half_way_is_not_waited_for(connect: Connect, proxy: Proxy) -> None:
    proxy.to_client.delay_s = 0.05  # so that the head and what follows are apart
    with connect(url_of(proxy)) as client:
        assert client.predict("trick_model", [{"nonce": 1}]) == [4]
        proxy.to_client.is_dropping = True
        with pytest.raises(DeadlineExceeded, match="no answer in time"):
            client.predict("trick_model", [{"nonce": 1}], timeout_s=0.1)
        proxy.heal()
        assert client.predict("trick_model", [{"nonce": 2}]) == [7]


def test_an_answer_that_trickles_in_is_not_waited_for(connect: Connect, tmp_path: Path) -> None:
    with (
        Server(write(tmp_path / "echo", ECHO)) as server,
        Proxy(address_of(server.url)[1]) as proxy,
        connect(url_of(proxy)) as client,
    ):
        client.predict("echo", ["short"])
        proxy.to_client.delay_s = 0.1  # each of some 60 pieces, so that no read takes long
        with pytest.raises(DeadlineExceeded, match="was not complete in time"):
            client.predict("echo", ["long" * 1_000_000], timeout_s=2)


def test_a_reset_in_the_middle_is_retried(
    connect: Connect, proxy: Proxy, thread: ThreadPoolExecutor, tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    trick = {"nonce": 7, "act": "wait", "diary": str(diary)}
    asked = thread.submit(ask, connect, url_of(proxy), trick)
    wait_for_line(diary)
    proxy.reset()
    Path(f"{diary}.go").touch()
    assert asked.result() == [answer_to(7)]
    assert len(proxy.accepted) == 2


@pytest.mark.parametrize("cut", [0, 20, 150])
def test_an_answer_that_was_cut_is_asked_for_again(
    connect: Connect, proxy: Proxy, cut: int
) -> None:
    proxy.to_client.cut_after(cut)
    assert ask(connect, url_of(proxy), {"nonce": 8}) == [answer_to(8)]
    assert proxy.to_client.cuts == 1


def test_connections_that_were_reset_while_idle_cost_no_answer(
    connect: Connect, proxy: Proxy
) -> None:
    with connect(url_of(proxy), retry=QUICK) as client:
        for nonce in range(20):
            assert client.predict("trick_model", [{"nonce": nonce}]) == [answer_to(nonce)]
            proxy.reset()


def test_a_gateway_that_comes_back_answers(
    connect: Connect, proxy: Proxy, thread: ThreadPoolExecutor
) -> None:
    proxy.refuse()
    retry = Retry(attempts=1000, base_s=0.02, longest_s=0.02)
    begun = threading.Event()

    def ask_patiently() -> Any:
        with connect(url_of(proxy), retry=retry) as client:
            begun.set()
            return client.predict("trick_model", [{"nonce": 9}], timeout_s=60)

    asked = thread.submit(ask_patiently)
    assert begun.wait(60)
    proxy.listen()
    assert asked.result() == [answer_to(9)]


def test_a_gateway_killed_in_the_middle_is_a_failed_connection(
    connect: Connect, thread: ThreadPoolExecutor, tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    with Server(TRICK) as server:
        trick = {"nonce": 1, "act": "wait", "diary": str(diary)}
        asked: Future[Any] = thread.submit(ask, connect, server.url, trick)
        wait_for_line(diary)
        server.stop(signal.SIGKILL)
        Path(f"{diary}.go").touch()
        with pytest.raises(ConnectionFailed, match="8 tries"):
            asked.result()


def test_an_input_that_crashes_its_model_is_not_sent_again(
    connect: Connect, trick: Server, tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    with pytest.raises(ModelCrashed) as caught:
        ask(connect, trick.url, {"nonce": 1, "act": "exit", "diary": str(diary)})
    assert caught.value.status == 502
    assert trick.metric("modelyard_requests_total", code="model_crashed") >= 1
    assert len(diary.read_text().split()) <= 2  # both by the gateway


def test_a_full_model_is_asked_again_when_it_said(connect: Connect, tmp_path: Path) -> None:
    limits = "[limits]\nmax_in_flight = 1\n[cache]\nttl_s = 0\n"
    first, second = (str(tmp_path / name) for name in ("first", "second"))
    with (
        Server(write(tmp_path / "waits", WAITS, limits)) as server,
        Client(server.url) as one,
        connect(server.url) as other,
        ThreadPoolExecutor(2) as threads,
    ):
        waiting = threads.submit(one.predict, "waits", [first])
        wait_for_line(Path(first))
        with connect(server.url, retry=Retry(attempts=1)) as impatient:
            with pytest.raises(Overloaded) as caught:
                impatient.predict("waits", [second])
            assert (caught.value.status, caught.value.retry_after_s) == (503, 1)
        Path(f"{second}.go").touch()
        asked = threads.submit(other.predict, "waits", [second])
        refused = {"code": "overloaded"}
        count = "modelyard_requests_total"
        wait_until(lambda: server.metric(count, **refused) >= 2, what="the second to be refused")
        Path(f"{first}.go").touch()
        assert waiting.result() == [first]
        assert asked.result() == [second]


def test_a_thread_that_finds_no_connection_waits_no_longer_than_for_an_answer(
    trick: Server, tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    waits = {"nonce": 1, "act": "wait", "diary": str(diary)}
    with Client(trick.url, connections=1) as client, ThreadPoolExecutor(1) as threads:
        asked = threads.submit(client.predict, "trick_model", [waits])
        wait_for_line(diary)
        with pytest.raises(DeadlineExceeded) as caught:
            client.predict("trick_model", [{"nonce": 2}], timeout_s=0.1)
        assert caught.value.status is None
        Path(f"{diary}.go").touch()
        assert asked.result() == [answer_to(1)]


async def test_a_task_that_finds_no_connection_waits_no_longer_than_for_an_answer(
    trick: Server, tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    waits = {"nonce": 1, "act": "wait", "diary": str(diary)}
    async with AsyncClient(trick.url, connections=1) as client, asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(client.predict("trick_model", [waits]))
        await asyncio.to_thread(wait_for_line, diary)
        with pytest.raises(DeadlineExceeded) as caught:
            await client.predict("trick_model", [{"nonce": 2}], timeout_s=0.1)
        assert caught.value.status is None
        await asyncio.to_thread(Path(f"{diary}.go").touch)
        assert await asked == [answer_to(1)]


async def test_calls_that_are_cancelled_leave_no_connection_behind(trick: Server) -> None:
    slow = {"nonce": 1, "act": "work", "seconds": 0.05}
    async with AsyncClient(trick.url, connections=2) as client:
        for turns in range(20):  # of the event loop, until they are cancelled
            calls = [asyncio.ensure_future(client.predict("trick_model", [slow])) for _ in range(4)]
            for _ in range(turns):
                await asyncio.sleep(0)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        assert await client.predict("trick_model", [{"nonce": 5}]) == [answer_to(5)]


async def test_many_calls_at_once_each_get_their_own_answer(trick: Server) -> None:
    async with AsyncClient(trick.url, connections=20) as client:
        calls = [client.predict("trick_model", [{"nonce": nonce}]) for nonce in range(150)]
        answers = await asyncio.gather(*calls)
    assert answers == [[answer_to(nonce)] for nonce in range(150)]


def test_threads_share_a_client(trick: Server) -> None:
    with Client(trick.url, connections=4) as client, ThreadPoolExecutor(16) as threads:
        asked = threads.map(lambda n: client.predict("trick_model", [{"nonce": n}]), range(150))
        assert list(asked) == [[answer_to(nonce)] for nonce in range(150)]


FORKS = """\
import os, sys
from modelyard.client import Client

with Client(sys.argv[1]) as client:
    assert client.predict("trick_model", [{"nonce": 1}]) == [4]
    child = os.fork()
    if not child:
        assert client.predict("trick_model", [{"nonce": 2}]) == [7]
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert client.predict("trick_model", [{"nonce": 3}]) == [10]
"""


def test_a_forked_child_has_connections_of_its_own(proxy: Proxy) -> None:
    subprocess.run([sys.executable, "-c", FORKS, url_of(proxy)], check=True, env=ENVIRONMENT)
    assert len(proxy.accepted) == 2  # the parent's is still good
