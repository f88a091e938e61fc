"""A RabbitMQ of a test's own: free ports on loopback, a temporary folder, ended by process id."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import aio_pika
import aio_pika.exceptions
import psutil

from tests.support.bound import start
from tests.support.ports import free_port
from tests.support.rabbitmq import URL_VARIABLE, Programs, run_apart
from tests.support.server import frozen, wait_for_the_end_of, wait_until

CONTROL_TIMEOUT_S = (
    300  # rabbitmqctl starts a virtual machine of its own: a busy machine takes long
)
NOT_MARKED = "this test needs a broker's processes: mark it own_broker"

_CONFIG = """\
listeners.tcp.1 = 127.0.0.1:{port}
log.console = false
disk_free_limit.absolute = 10MB
prometheus.tcp.ip = 127.0.0.1
prometheus.tcp.port = {metrics_port}
"""
# Not beside a share of the memory: which of the two counts depends on the release.
_MEMORY = "vm_memory_high_watermark.absolute = 1GB\n"


class Broker:
    """Runs a broker as long as the ``with`` block, through any number of deaths.

    Args:
        folder: For all that it writes.
        has_metrics: Whether it serves them to Prometheus, at ``metrics_port``.
        more_config: What else its configuration says.
    """

    def __init__(self, folder: Path, *, has_metrics: bool = False, more_config: str = "") -> None:
        assert URL_VARIABLE not in os.environ, NOT_MARKED
        self._programs = Programs(folder)
        self.port, self.metrics_port = free_port(), free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/"
        self._folder, self._output = folder, folder / "output"
        self._epmd_port, distribution = free_port(), free_port()
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "rabbitmq.conf"
        settings = _CONFIG.format(port=self.port, metrics_port=self.metrics_port)
        memory = "" if "vm_memory_high_watermark" in more_config else _MEMORY
        config.write_text(settings + memory + more_config)
        (folder / "plugins").write_text("[rabbitmq_prometheus]." if has_metrics else "[].")
        loopback = "-kernel inet_dist_use_interface {127,0,0,1}"
        self._environment = {
            **os.environ,
            "HOME": str(folder),
            "ERL_CRASH_DUMP": str(folder / "erl_crash.dump"),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"test{secrets.token_hex(4)}@localhost",
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "logs"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "config"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": loopback,
            "RABBITMQ_CTL_ERL_ARGS": loopback,
            # The start script becomes Erlang's virtual machine instead of waiting for it.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def __enter__(self) -> Broker:
        self._epmd = start(
            self._programs.command("epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1"),
            env=self._environment,
        )
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        self._epmd.kill()
        self._epmd.wait()

    def tree(self) -> list[psutil.Process]:
        """Give all processes of the broker."""
        return [*self._family(), psutil.Process(self._epmd.pid)]

    def start(self) -> None:
        """Start the broker, and wait until it accepts connections."""
        with self._output.open("wb") as output:
            self._process = start(
                self._programs.command("rabbitmq-server"),
                env=self._environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_until(self._is_up, what="the broker")

    def kill(self) -> None:
        """Kill the broker with all its helpers, as a power cut would."""
        _, *family = self._family()
        os.killpg(self._process.pid, signal.SIGKILL)
        for process in family:
            if process.is_running():
                process.kill()
        self._process.wait()
        wait_for_the_end_of(family)

    def frozen(self) -> contextlib.AbstractContextManager[None]:
        """Let the broker with all its helpers stand still as long as the ``with`` block."""
        return frozen(*self._family())

    def _family(self) -> list[psutil.Process]:
        broker = psutil.Process(self._process.pid)
        return [broker, *broker.children(recursive=True)]

    def url_through(self, port: int) -> str:
        """Give the URL for those who come through a proxy on ``port``."""
        return self.url.replace(f":{self.port}/", f":{port}/")

    def forget_targets(self) -> None:
        """Drop the cards that gateways keep: for those who start now, there was never a model."""
        run_apart(_purge(self.url))

    def log(self) -> str:
        """What the broker has logged so far."""
        logs = sorted((self._folder / "logs").glob("*.log"))
        return "".join(log.read_text(errors="replace") for log in logs)

    def control(self, *arguments: str) -> str:
        """Run ``rabbitmqctl``."""
        done = subprocess.run(
            self._programs.command("rabbitmqctl", "--quiet", *arguments),
            env=self._environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=CONTROL_TIMEOUT_S,
        )
        return done.stdout

    def _is_up(self) -> bool:
        assert self._process.poll() is None, f"the broker ended:\n{self._output.read_text()}"
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
                probe.sendall(b"AMQP\0\0\x09\x01")
                return bool(probe.recv(1))
        except OSError:
            return False


class RunningBroker(Broker):
    """A broker that somebody else runs: its address, and nothing more."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __getattr__(self, name: str) -> NoReturn:
        raise AssertionError(f"{NOT_MARKED} ({name})")


async def _purge(url: str) -> None:
    async with await aio_pika.connect(url) as connection:
        for queue_type in ("classic", "quorum"):
            channel = await connection.channel()
            with contextlib.suppress(aio_pika.exceptions.ChannelNotFoundEntity):
                await (await channel.get_queue(f"modelyard.cards.{queue_type}")).purge()
