"""A small cluster to measure: one broker, one gateway, some workers, all of this machine."""

from __future__ import annotations

import sys
import tempfile
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from bench.processes import Server
from tests.support.broker import Broker
from tests.support.server import wait_until


def modelyard(*arguments: str) -> list[str]:
    """Give a command line."""
    return [str(Path(sys.executable).with_name("modelyard")), *arguments]


class Cluster:
    """From ``with`` to the end of the block: broker, gateway and ``workers`` of one model."""

    def __init__(self, folder: Path, logs: Path, *, workers: int = 1) -> None:
        self._folder = folder
        self._logs = logs
        self._wanted = workers
        self._stack = ExitStack()
        self.workers: list[Server] = []

    def __enter__(self) -> Self:
        try:
            place = self._stack.enter_context(tempfile.TemporaryDirectory())
            self.broker = self._stack.enter_context(Broker(Path(place)))
            self.gateway = self._start("gateway", modelyard("gateway"))
            for number in range(self._wanted):
                command = modelyard("worker", str(self._folder))
                self.workers.append(self._start(f"worker-{number}", command))
            name = self._folder.name
            wait_until(
                lambda: metric(self.gateway, "runners", name, state="ready") == self._wanted,
                what="workers at the gateway",
            )
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def broker_cpu_s(self) -> float:
        """Give the processor time that the broker has used."""
        return sum(
            sum(process.cpu_times()[:2])
            for process in psutil.Process().children(recursive=True)
            if process.name() == "beam.smp"
        )

    def _start(self, name: str, command: list[str]) -> Server:
        environment = {"MODELYARD_AMQP_URL": self.broker.url, "MODELYARD_CACHE_BYTES": "0"}
        server = Server(name, command, environment=environment, log=self._logs / f"{name}.log")
        return self._stack.enter_context(server)


def metric(server: Server, name: str, model: str, **labels: str) -> float:
    """Give the sum of the samples of ``modelyard_<name>`` that have these labels."""
    wanted = [f'{label}="{value}"' for label, value in {"model": model, **labels}.items()]
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in lines
        if line.startswith(f"modelyard_{name}{{") and all(label in line for label in wanted)
    )
