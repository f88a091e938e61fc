"""A broker that restarts, dies, hangs or refuses to take more: its own here, as it is ill-treated.

Numbers in names are the rows of the table of faults in ``docs/reliability.md``.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest

from modelyard.telemetry.metrics import Metrics
from modelyard.transports.amqp.address import parse_addresses
from modelyard.transports.amqp.session import Broker as Link
from modelyard.transports.amqp.session import Session, Supervisor
from tests.faults.conftest import with_a_worker
from tests.support.broker import Broker
from tests.support.cluster import Cluster, events, pings_lost, sessions
from tests.support.ledger import Every, Ledger
from tests.support.proxy import Proxy
from tests.support.server import wait_until

pytestmark = pytest.mark.own_broker


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with ExitStack() as stack:
        broker = stack.enter_context(Broker(tmp_path_factory.mktemp("broker")))
        yield with_a_worker(Cluster(broker, stack))


@pytest.fixture
def own(running: Cluster) -> Iterator[Cluster]:
    """A cluster that serves at the beginning and, whatever was done to its broker, at the end."""
    running.wait_until_serving()
    yield running
    running.wait_until_serving()


def test_row_12_a_restarted_broker_costs_no_answer(own: Cluster) -> None:
    before = sessions(own.gateway)
    ledger = Ledger(own.gateway.url, connections=8, trick={"act": "work", "seconds": 0.01})

    def restart() -> bool:
        own.broker.control("stop_app")
        own.broker.control("start_app")
        wait_for_more(ledger)
        return True

    ledger.run_until(Every(0.5, 1, restart))
    ledger.check(503)
    wait_until(lambda: sessions(own.gateway) >= before + 2, what="both sessions")
    assert events("resent", own.gateway) > 0


def test_row_13_a_killed_broker_loses_nothing(own: Cluster) -> None:
    resent = events("resent", own.gateway)
    ledger = Ledger(own.gateway.url, connections=8, trick={"act": "work", "seconds": 0.01})

    def kill_and_start() -> bool:
        own.broker.kill()
        own.broker.start()
        wait_for_more(ledger)
        return True

    ledger.run_until(Every(0.5, 1, kill_and_start))
    ledger.check(503)
    assert events("resent", own.gateway) > resent


def wait_for_more(ledger: Ledger) -> None:
    answered = ledger.statuses[200]
    wait_until(lambda: ledger.statuses[200] > answered + 20, what="more answers")


def test_row_14_a_frozen_broker_is_found_by_the_self_ping(own: Cluster, tmp_path: Path) -> None:
    diary, timeout_s = tmp_path / "diary", 3.0
    before = pings_lost(own.gateway)
    with own.broker.frozen():
        asked = time.monotonic()
        statuses = {own.ask(1, timeout_s=timeout_s, diary=str(diary)).status_code}
        wait_until(lambda: pings_lost(own.gateway) > before, what="the finding")
        statuses.add(own.ask(2, timeout_s=timeout_s, diary=str(diary)).status_code)
        assert statuses == {503}
        wait_until(lambda: time.monotonic() > asked + 2 * timeout_s, what="both deadlines")
    own.wait_until_serving()
    assert not diary.exists(), "both had expired"


@pytest.mark.parametrize(
    ("alarm", "clear"),
    [
        (["set_vm_memory_high_watermark", "0.0001"], ["set_vm_memory_high_watermark", "0.5"]),
        (["set_disk_free_limit", "999GB"], ["set_disk_free_limit", "10MB"]),
    ],
    ids=["memory", "disk"],
)
def test_row_15_an_alarm_is_a_503_long_before_the_deadline(
    own: Cluster, tmp_path: Path, alarm: list[str], clear: list[str]
) -> None:
    diary, timeout_s, short_s = tmp_path / "diary", 60, 2.0
    ledger = Ledger(own.gateway.url, connections=8, timeout_s=timeout_s)

    def raise_and_clear() -> bool:
        own.broker.control(*alarm)
        try:
            wait_until(lambda: ledger.statuses[503] > 8, what="refusals")
            asked, refused = time.monotonic(), ledger.statuses[503]
            assert own.ask(-1, timeout_s=short_s, diary=str(diary)).status_code == 503
            wait_until(lambda: ledger.statuses[503] > refused + 8, what="more refusals")
            wait_until(lambda: time.monotonic() > asked + short_s, what="the deadline")
        finally:
            own.broker.control(*clear)
        wait_for_more(ledger)
        return True

    ledger.run_until(Every(0.2, 1, raise_and_clear))
    ledger.check(503)
    assert ledger.slowest_s[503] < timeout_s / 2
    assert not diary.exists(), "it had expired"


def test_row_15_what_runs_when_an_alarm_begins_is_a_503_long_before_its_deadline(
    own: Cluster, tmp_path: Path
) -> None:
    diary, gate = tmp_path / "diary", tmp_path / "diary.go"
    (worker,) = own.workers
    before, blocked = events("redelivered", worker), worker.output.count('"broker_blocked"')
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(own.ask, 1, timeout_s=300, act="wait", diary=str(diary))
        wait_until(diary.exists, what="the runner to have it")
        own.broker.control("set_vm_memory_high_watermark", "0.0001")
        try:
            assert asked.result().status_code == 503
            gate.touch()
            # The first is that of the connection which announces.
            both = blocked + 2
            wait_until(lambda: worker.output.count('"broker_blocked"') >= both, what="a block")
        finally:
            own.broker.control("set_vm_memory_high_watermark", "0.5")
    own.wait_until_serving()
    assert events("redelivered", worker) == before
    assert diary.read_text().splitlines() == ["1"], "it ran again, though it was answered"


class Storm:
    """Many supervisors that come through one proxy, which sees when."""

    def __init__(self, url: str, *, size: int) -> None:
        self._size = size
        self._open = 0
        self._supervisors = [
            Supervisor(
                Link(
                    parse_addresses(url),
                    f"{number}",
                    Metrics(),
                    time.monotonic,
                    time.time,
                    Random(),
                ),
                role="storm",
                on_open=self._on_open,
                on_lost=self._on_lost,
                confirm_timeout_s=1.0,
            )
            for number in range(size)
        ]

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for supervisor in self._supervisors:
                group.create_task(supervisor.run())

    async def wait_for(self, number: int) -> None:
        """Wait until so many have a session."""
        await asyncio.to_thread(wait_until, lambda: self._open == number, what="sessions")

    async def _on_open(self, _: Session) -> None:
        self._open += 1

    def _on_lost(self) -> None:
        self._open -= 1


async def test_row_22_many_come_back_one_after_the_other(own: Cluster) -> None:
    size = 100  # of two connections each
    with Proxy(own.broker.port) as proxy:
        storm = Storm(own.broker.url_through(proxy.port), size=size)
        running = asyncio.create_task(storm.run())
        await storm.wait_for(size)
        assert proxy.connections == 2 * size
        began, before = time.monotonic(), len(proxy.accepted)
        await asyncio.to_thread(own.broker.control, "stop_app")
        await storm.wait_for(0)
        # After five tries each they have slowed down to one in one to three seconds.
        await asyncio.to_thread(
            wait_until, lambda: len(proxy.accepted) > before + 8 * size, what="many tries"
        )
        took_s, tries = time.monotonic() - began, len(proxy.accepted) - before
        late = proxy.accepted[before + 5 * size :]
        await asyncio.to_thread(own.broker.control, "start_app")
        await storm.wait_for(size)
        running.cancel()
        await asyncio.wait([running])
    assert tries <= size * (6 + took_s)
    slots = {int(at * 10) for at in late}
    print("peak per second:", max(Counter(int(at) for at in proxy.accepted[before:]).values()))
    print(f"{tries} tries in {took_s:.1f} s; {len(slots)} tenths in {late[-1] - late[0]:.1f} s")
    assert len(slots) > 5 * (late[-1] - late[0]), "they come spread, not all at once"
    assert "RESOURCE_LOCKED" not in own.broker.log()
