"""A Redis of a test's own: a free port on loopback, a temporary folder, ended by process id."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from pathlib import Path
from types import TracebackType

import psutil

from tests.support.bound import start
from tests.support.ports import free_port
from tests.support.server import frozen, wait_until


class RedisServer:
    """Runs Redis as long as the ``with`` block. ``password``: what its users have to know."""

    def __init__(self, folder: Path, *, password: str = "") -> None:
        self._folder = folder
        self._wanted = ["--requirepass", password] if password else []
        self.port = free_port()
        user = f":{password}@" if password else ""
        self.url = f"redis://{user}127.0.0.1:{self.port}/0"

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def start(self) -> None:
        """Start it, again after a death, and wait until it answers."""
        self._process = start(
            [
                *("redis-server", "--bind", "127.0.0.1", "--port", str(self.port)),
                *("--save", "", "--appendonly", "no", "--dir", str(self._folder)),
                *self._wanted,
            ],
            stdout=subprocess.DEVNULL,
        )
        wait_until(self._is_up, what="Redis")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def tree(self) -> list[psutil.Process]:
        """Give its one process."""
        return [psutil.Process(self._process.pid)]

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()

    def frozen(self) -> contextlib.AbstractContextManager[None]:
        """Let it stand still as long as the ``with`` block."""
        return frozen(*self.tree())

    def _is_up(self) -> bool:
        assert self._process.poll() is None, "Redis ended, or is not installed"
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
                probe.sendall(b"PING\r\n")
                return probe.recv(7)[:5] in (b"+PONG", b"-NOAU")
        except OSError:
            return False
