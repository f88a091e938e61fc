"""Modelyard, embedded and as a cluster; with its cache off, on but never hit, and always hit."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import psutil

from bench.load import MARK
from bench.peers.folders import write_folders
from bench.peers.system import ENVIRONMENT, READY_WITHIN_S, Call, Program, Running, answers_rightly
from bench.peers.told import Told
from bench.processes import Server, ServerError
from modelyard.arrays import ext_hook, pack_array
from tests.support.broker import Broker
from tests.support.cache import RedisServer

PROGRAM = str(Path(sys.executable).with_name("modelyard"))


class Caching(NamedTuple):
    """How the cache is set, and whether requests differ."""

    suffix: str
    title: str
    settings: dict[str, str]
    is_varied: bool
    needs_redis: bool = False


MEMORY_OFF = {"MODELYARD_CACHE_BYTES": "0"}
OFF = Caching("", "", MEMORY_OFF, is_varied=False)
MISSES = Caching("-misses", ", cache on, no hits", {}, is_varied=True)
HITS = Caching("-hits", ", all cached", {}, is_varied=False)
REDIS_HITS = Caching(
    "-redis-hits", ", all cached in Redis only", MEMORY_OFF, is_varied=False, needs_redis=True
)


MSGPACK = {"Content-Type": "application/msgpack"}


def _unpack(answer: bytes) -> Any:
    array = msgspec.msgpack.decode(answer, ext_hook=ext_hook)["prediction"]
    return array.reshape(-1).tolist()


class _Asked:
    """What both shapes have in common: how they are asked.

    Args:
        caching: How the cache is set.
        program: What is started: the ``modelyard`` of this checkout, or of another.
        label: What tells one checkout's from another's in names and titles.
    """

    forms: Sequence[str] = ("json", "binary")
    v2: Sequence[str] = ()
    has_batching = False

    def __init__(self, caching: Caching, *, program: str = PROGRAM, label: str = "") -> None:
        self.caching = caching
        self.program = program
        self._suffix = caching.suffix + (f"-{label}" if label else "")
        self._title = caching.title + (f", {label}" if label else "")

    def missing(self) -> str:
        return ""

    def joins(self, scenario: str) -> bool:
        """With the cache on, there is nothing to learn but from small requests."""
        return scenario == "small" or self.caching is OFF

    def call(self, model: str, instance: Any, form: str = "json") -> Call:
        """Give a request with one instance; one that no cache knows, if so set."""
        if form == "binary":
            import numpy as np

            array = np.asarray([instance], dtype="<f4")
            content = {"model_name": model, "input_data": array}
            body = msgspec.msgpack.encode(content, enc_hook=pack_array)
            return Call("/predict", body, _unpack, MSGPACK)
        text = json.dumps({"model_name": model, "input_data": [instance]})
        if self.caching.is_varied:
            text = text.replace("0.2]", f"0.2{MARK}]")
        return Call("/predict", text.encode(), lambda answer: json.loads(answer)["prediction"][0])


class Embedded(_Asked):
    """``modelyard serve``."""

    v2 = ("json", "binary", "grpc")

    @property
    def name(self) -> str:
        return f"modelyard{self._suffix}"

    @property
    def title(self) -> str:
        return f"Modelyard embedded{self._title}"

    @contextlib.contextmanager
    def start(self, told: Told, logs: Path) -> Iterator[Running]:
        with tempfile.TemporaryDirectory() as folder:
            write_folders(Path(folder), told)
            grpc = ["--grpc-port", str(told.grpc_port)] if told.grpc_port else []
            with Program(
                self.name,
                [self.program, "serve", folder, *grpc],
                environment=ENVIRONMENT | self.caching.settings,
                log=logs / f"{self.name}.log",
                is_ready=lambda url: answers_rightly(self, url, told.models),
                ready_within_s=READY_WITHIN_S,
            ) as server:
                yield server


class Cluster(_Asked):
    """``modelyard gateway``, for each model as many ``modelyard worker`` as runners, RabbitMQ."""

    @property
    def name(self) -> str:
        return f"cluster{self._suffix}"

    @property
    def title(self) -> str:
        return f"Modelyard cluster{self._title}"

    def joins(self, scenario: str) -> bool:
        """Workers of many models are many machines' work; V2 costs what it does embedded."""
        return scenario not in ("many", "v2") and super().joins(scenario)

    def start(self, told: Told, logs: Path) -> AbstractContextManager[Running]:
        return _Cluster(self, told, logs)


class _Cluster:
    """A cluster from ``with`` to the end of the block."""

    def __init__(self, system: Cluster, told: Told, logs: Path) -> None:
        self._system, self._told, self._logs = system, told, logs
        self._stack = ExitStack()
        self._servers: list[Server] = []
        self._services: list[Broker | RedisServer] = []
        self.url = ""
        self.started_in_s = 0.0

    def __enter__(self) -> _Cluster:
        with contextlib.ExitStack() as stack:
            folders = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            write_folders(folders, self._told._replace(runners=1))
            broker = stack.enter_context(Broker(_new_folder(stack)))
            self._services.append(broker)
            settings = ENVIRONMENT | self._system.caching.settings
            settings |= {"MODELYARD_AMQP_URL": broker.url}
            if self._system.caching.needs_redis:
                redis = stack.enter_context(RedisServer(_new_folder(stack)))
                self._services.append(redis)
                settings |= {"MODELYARD_REDIS_URL": redis.url}
            began = time.monotonic()
            self._enter_members(stack, folders, settings)
            self._wait_for_answers(began + READY_WITHIN_S)
            self.started_in_s = time.monotonic() - began
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def support(self) -> list[psutil.Process]:
        """Give the processes of the broker, and of Redis."""
        return [process for service in self._services for process in service.tree()]

    def tree(self) -> list[psutil.Process]:
        """Give all its processes."""
        members = [process for server in self._servers for process in server.tree()]
        return members + self.support()

    def _enter_members(self, stack: ExitStack, folders: Path, settings: dict[str, str]) -> None:
        """Start gateway and workers, all at once."""
        program = self._system.program
        commands = {"gateway": [program, "gateway"]}
        for model in self._told.models:
            for number in range(self._told.runners):
                commands[f"{model}-{number}"] = [program, "worker", str(folders / model)]
        self._servers = [
            Server(
                f"{self._system.name}-{part}",
                command,
                environment=settings,
                log=self._logs / f"{self._system.name}-{part}.log",
                ready_within_s=READY_WITHIN_S,
            )
            for part, command in commands.items()
        ]
        with ThreadPoolExecutor(len(self._servers)) as threads:
            for started in [threads.submit(stack.enter_context, one) for one in self._servers]:
                started.result()
        self.url = self._servers[0].url

    def _wait_for_answers(self, deadline: float) -> None:
        while not answers_rightly(self._system, self.url, self._told.models):
            if time.monotonic() > deadline:
                raise ServerError(f"{self._system.name} is not ready after {READY_WITHIN_S} s")
            time.sleep(0.01)


def _new_folder(stack: ExitStack) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory()))
