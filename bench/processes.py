"""Servers under measurement: started on a free port of the loopback, watched, and surely ended."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

ROOT = Path(__file__).resolve().parent.parent
READY_WITHIN_S = 60
STOPPED_WITHIN_S = 15


class ServerError(Exception):
    """A server that did not start, or answers wrongly."""


class Server:
    """A server process with its children, from ``with`` to the end of the block.

    Args:
        name: What the report calls it.
        command: What to run; ``--port`` and a free port are added.
        environment: Added to the environment, from which all of Modelyard's settings are taken out.
        log: File for what it says on standard output and standard error.
        is_ready: Given the URL, tells whether it can be measured; asks ``/readyz`` unless given.
        ready_within_s: How long that may take.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        is_ready: Callable[[str], bool] | None = None,
        ready_within_s: float = READY_WITHIN_S,
    ) -> None:
        self.name = name
        self._is_ready = is_ready or _says_ready
        self._ready_within_s = ready_within_s
        self._command = command
        self._environment = clean_environment() | dict(environment)
        self._log = log
        self.url = ""
        self.started_in_s = 0.0

    def __enter__(self) -> Self:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        began = time.monotonic()
        with self._log.open("wb") as log:
            self._popen = subprocess.Popen(
                [*self._command, "--port", str(port)],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._process = psutil.Process(self._popen.pid)
        try:
            self._wait_until_ready(began + self._ready_within_s)
        except BaseException:
            self._stop()
            raise
        self.started_in_s = time.monotonic() - began
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def tree(self) -> list[psutil.Process]:
        """Give the process and all its descendants."""
        return [self._process, *self._process.children(recursive=True)]

    def find(self, title: str) -> psutil.Process | None:
        """Give the process of the tree that calls itself ``title``, if there is one now."""
        for process in self.tree():
            with contextlib.suppress(psutil.Error):
                if process.cmdline()[:1] == [title]:
                    return process
        return None

    def cpu_s(self) -> float:
        """Give the seconds of processor time that the living tree has used, user and system."""
        return cpu_s_of(self.tree())

    def _wait_until_ready(self, deadline: float) -> None:
        while True:
            if self._popen.poll() is not None:
                raise ServerError(f"{self.name} ended at once:\n{self._log.read_text()[-2000:]}")
            if self._is_ready(self.url):
                return
            if time.monotonic() > deadline:
                raise ServerError(f"{self.name} is not ready after {self._ready_within_s} s")
            time.sleep(0.01)

    def _stop(self) -> None:
        """Ask the server to end; kill what is left of its tree, process by process."""
        try:
            tree = self.tree()
        except psutil.NoSuchProcess:
            tree = []
        self._popen.terminate()
        try:
            self._popen.wait(STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        for process in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()  # psutil compares the start time: never another one's id


def cpu_s_of(processes: list[psutil.Process]) -> float:
    """Give the seconds of processor time that those of ``processes`` which live have used."""
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def _says_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:  # not listening yet, or 503
        return False


def clean_environment() -> dict[str, str]:
    """Give the environment without anything that would set Modelyard up in another way."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MODELYARD_")}


def free_port() -> int:
    """Give a port of the loopback that nobody listens at now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
