"""A real PostgreSQL of a test's own, in a temporary folder on a free port."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Self

from tests.support.bound import start
from tests.support.ports import free_port
from tests.support.server import PATIENCE_S, wait_until

ACCOUNT = "postgres"  # it refuses to run as root


def _program(name: str) -> str:
    """Return where a program is. Debian keeps those of the server out of PATH."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / name).exists():
            return str(folder / name)
    found = shutil.which(name)
    assert found, f"{name} is not installed: run `make setup-test`"
    return found


def _as_other_than_root() -> list[str]:
    if os.geteuid() != 0:
        return []
    who = pwd.getpwnam(ACCOUNT)
    return ["setpriv", f"--reuid={who.pw_uid}", f"--regid={who.pw_gid}", "--clear-groups"]


class Postgres:
    """Runs as long as the ``with`` block; ``url`` is that of an empty database.

    Args:
        is_durable: Whether it waits for the disk.
        password: What its user has to know; empty for nothing.
    """

    def __init__(self, *, is_durable: bool = False, password: str = "") -> None:
        self._fsync = "on" if is_durable else "off"
        self._password = password

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        if os.geteuid() == 0:
            shutil.chown(self._folder, ACCOUNT, ACCOUNT)
        self._port = free_port()
        data = str(self._folder / "data")
        initdb = ["--auth=trust", "--username=modelyard", "--no-sync", "-D", data]
        if self._password:
            secret = self._folder / "password"
            secret.write_text(self._password)
            secret.chmod(0o644)
            initdb += ["--auth=scram-sha-256", f"--pwfile={secret}"]
        subprocess.run(
            [*_as_other_than_root(), _program("initdb"), *initdb],
            check=True,
            capture_output=True,
            cwd=self._folder,
        )
        self._start()
        user = "modelyard" + (f":{self._password}" if self._password else "")
        self.url = f"postgresql://{user}@127.0.0.1:{self._port}/postgres"
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._folder)

    def stop(self) -> None:
        """End it, and wait for that."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)  # fast: its sessions are ended
        self._process.wait(PATIENCE_S)

    def kill(self) -> None:
        """End it as a crash would; its sessions end as they notice."""
        self._process.kill()
        self._process.wait(PATIENCE_S)

    def restart(self) -> None:
        """Start it again with what it has kept."""
        self._start()

    def _start(self) -> None:
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self._port),
            "unix_socket_directories": "",
            "fsync": self._fsync,
        }
        settings = [part for pair in options.items() for part in ("-c", "=".join(pair))]
        log = (self._folder / "log").open("ab")
        with log:
            self._process = start(
                [
                    *_as_other_than_root(),
                    *("setpriv", "--pdeathsig", "KILL"),
                    *(_program("postgres"), "-D", str(self._folder / "data"), *settings),
                ],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self._folder,
            )
        ready = [_program("pg_isready"), "-h", "127.0.0.1", "-p", str(self._port)]
        wait_until(
            lambda: subprocess.run(ready, check=False, capture_output=True).returncode == 0,
            what="PostgreSQL",
        )
