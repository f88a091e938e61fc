"""The server around the connections: how it ends, and what it leaves to others."""

from __future__ import annotations

import asyncio
import signal

import pytest

from modelyard.gateway.bind import bind
from tests.unit.http import Gateway, HeldPage
from tests.unit.wire import request


def shut_down(gateway: Gateway) -> asyncio.Task[None]:
    """Begin to shut down, as uvicorn does once ``stop`` was called."""
    server = gateway.server
    server.servers, server.lifespan = [], server.config.lifespan_class(server.config)
    return asyncio.create_task(server.shutdown())


async def pass_time(gateway: Gateway, seconds: float) -> None:
    """Let time pass as it does, bit by bit."""
    for _ in range(round(10 * seconds)):
        await gateway.pass_time(0.1)


async def test_requests_under_way_are_answered_before_the_server_ends() -> None:
    gateway = Gateway(is_echoing=False)
    client = gateway.connect()
    await client.send(request())
    gateway.server.stop()
    assert gateway.server.should_exit
    task = shut_down(gateway)
    await pass_time(gateway, 0.5)
    assert not task.done()
    await gateway.answer()
    assert client.codes == ["ok"]
    await pass_time(gateway, 0.3)
    assert task.done()
    assert gateway.connections == 0


async def test_a_server_that_has_waited_long_enough_refuses_what_is_left() -> None:
    gateway = Gateway(is_echoing=False, pages=HeldPage())
    asked, page = gateway.connect(), gateway.connect()
    await asked.send(request())
    await page.send(request(b"", method="GET", path="/page"))
    task = shut_down(gateway)
    await pass_time(gateway, 1.5)
    assert task.done()
    assert asked.codes == ["shutting_down"]
    assert page.is_cut
    assert gateway.connections == 0


async def test_a_server_that_is_forced_waits_for_nothing() -> None:
    gateway = Gateway(is_echoing=False)
    client = gateway.connect()
    await client.send(request())
    gateway.server.stop()
    gateway.server.stop(is_forced=True)
    task = shut_down(gateway)
    await pass_time(gateway, 0.3)
    assert task.done()
    assert client.codes == ["shutting_down"]


async def test_a_connection_of_another_kind_is_left_to_uvicorn() -> None:
    class Other:
        is_shut_down = False

        def shutdown(self) -> None:
            self.is_shut_down = True

    gateway, other = Gateway(), Other()
    gateway.state.connections.add(other)  # type: ignore[arg-type]
    gateway.server.stop(is_forced=True)
    task = shut_down(gateway)
    await pass_time(gateway, 0.3)
    assert task.done()
    assert other.is_shut_down


def test_signals_are_left_to_whoever_composes_the_process() -> None:
    before = signal.getsignal(signal.SIGTERM)

    async def look() -> None:
        with Gateway().server.capture_signals():
            assert signal.getsignal(signal.SIGTERM) is before

    asyncio.run(look())


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_is_bound_once(host: str) -> None:
    try:
        first = bind(host, 0)
    except OSError:
        assert ":" in host  # a machine without IPv6
        return
    with first:
        port = first.getsockname()[1]
        assert port > 0
        with pytest.raises(OSError, match="in use"):
            bind(host, port)
