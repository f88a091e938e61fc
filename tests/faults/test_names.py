"""A broker whose name cannot be looked up: said once a try, and no defect."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

NAMESERVER = "127.9.9.9"

# The look-up takes 6 s and a try to connect 5: so it is given up, and fails later.
SLOW = f"nameserver {NAMESERVER}\noptions timeout:1 attempts:2\n"

SCRIPT = """
import asyncio, gc, logging, time
from random import Random
import uvloop
from modelyard.telemetry.metrics import Metrics
from modelyard.transports.amqp.address import parse_addresses
from modelyard.transports.amqp import session
from modelyard.transports.amqp.session import Broker, Supervisor

session.CONNECT_TIMEOUT_S = 1.5  # less than a look-up takes

class Count(logging.Handler):
    tries = 0
    def emit(self, record):
        Count.tries += record.getMessage() == "broker_unreachable"

async def main():
    defects = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: defects.append(context))
    addresses = parse_addresses("amqp://a:b@broker.example:5672/")
    broker = Broker(addresses, "test", Metrics(), time.monotonic, time.time, Random())
    async def on_open(session): ...
    supervisor = Supervisor(
        broker, role="test", on_open=on_open, on_lost=lambda: None, confirm_timeout_s=1
    )
    running = asyncio.create_task(supervisor.run())
    while Count.tries < 3:
        await asyncio.sleep(0.05)
    running.cancel()
    await asyncio.wait([running])
    gc.collect()
    print("defects:", defects)

logging.getLogger().addHandler(Count())
logging.getLogger("modelyard").setLevel(logging.DEBUG)  # where each try is logged
uvloop.run(main())
"""


@pytest.fixture
def silent_nameserver() -> Iterator[None]:
    """A name server that never answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((NAMESERVER, 53))
        yield


@pytest.mark.usefixtures("silent_nameserver")
def test_a_look_up_that_is_given_up_is_not_reported_as_a_defect(tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text(SLOW)
    (tmp_path / "script.py").write_text(SCRIPT)
    mount = f'mount --bind "{tmp_path}/resolv.conf" "$(readlink -f /etc/resolv.conf)"'
    done = subprocess.run(
        [
            *("unshare", "--mount", "sh", "-ec"),
            *(f'{mount}; exec "{sys.executable}" "$1"', "sh", tmp_path / "script.py"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "defects: []\n"
