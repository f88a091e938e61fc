"""The vocabulary of the comparison: a system, how it is asked, and what it is while it runs."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import psutil

from bench.load import JSON, MARK
from bench.peers.samples import is_close, samples
from bench.peers.told import Told
from bench.processes import ROOT, Server, ServerError

READY_WITHIN_S = 600
# Scenarios that measure Modelyard's own growth.
OURS_ALONE = ("many", "spread")
# One numeric thread for each, and no reports to the makers.
ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "PYTHONPATH": str(ROOT),
    "BENTOML_DO_NOT_TRACK": "True",
    "RAY_USAGE_STATS_ENABLED": "0",
}
# Statuses that do not pass; 400 does: MLServer says so while a model loads.
_HOPELESS = (413, 415, 422)


class Call(NamedTuple):
    """One request, and how to read its answer as predictions."""

    path: str
    body: bytes
    read: Callable[[bytes], Any]
    headers: Mapping[str, str] = JSON


class Running(Protocol):
    """A system that serves."""

    url: str
    started_in_s: float

    def tree(self) -> list[psutil.Process]:
        """Give all its processes, those of ``support`` included."""
        ...

    def support(self) -> list[psutil.Process]:
        """Give the processes that it only uses: a broker, a cache."""
        ...


class System(Protocol):
    """What is compared."""

    @property
    def name(self) -> str:
        """What ``PEERS=`` calls it."""
        ...

    @property
    def title(self) -> str:
        """What the report calls it."""
        ...

    @property
    def forms(self) -> Sequence[str]:
        """How tensors can be sent: ``json``, and ``binary`` if it can."""
        ...

    @property
    def v2(self) -> Sequence[str]:
        """How it speaks the Open Inference Protocol V2: ``json``, ``binary``, ``grpc``."""
        ...

    @property
    def has_batching(self) -> bool:
        """Whether batching is a choice: one that costs a lonely request something."""
        ...

    def missing(self) -> str:
        """Say why it cannot be started here; nothing if it can."""
        ...

    def joins(self, scenario: str) -> bool:
        """Tell whether a scenario is meant for it."""
        ...

    def start(self, told: Told, logs: Path) -> AbstractContextManager[Running]:
        """Start it; entered, it has given a right answer for every model."""
        ...

    def call(self, model: str, instance: Any, form: str = "json") -> Call:
        """Give a request with one instance."""
        ...


class Program(Server):
    """A system that is one process tree and uses nothing beside."""

    def support(self) -> list[psutil.Process]:
        """Give nothing."""
        return []


class Peer(NamedTuple):
    """A system in an environment of its own, as its ``peer.py`` describes it.

    Attributes:
        name: What ``PEERS=`` calls it.
        title: What the report calls it.
        command: What runs in its environment; ``--port`` is added.
        ask: Gives a request with one instance for a model, in one of ``forms``.
        environment: What else it is told.
        forms: See ``System``.
        v2: See ``System``.
        has_batching: See ``System``.
        home: Whose environment it uses, where one is measured in two ways.
    """

    name: str
    title: str
    command: tuple[str, ...]
    ask: Callable[[str, Any, str], Call]
    environment: Mapping[str, str] = {}
    forms: Sequence[str] = ("json",)
    v2: Sequence[str] = ()
    has_batching: bool = True
    home: str = ""

    @property
    def folder(self) -> Path:
        """Its environment."""
        return ROOT / "build" / "bench" / (self.home or self.name)

    def missing(self) -> str:
        """Say why it cannot be started here."""
        is_there = (self.folder / ".done").exists()
        done = f"build/bench/{self.folder.name}/.done"
        return "" if is_there else f"its environment is not made: make {done}"

    def joins(self, scenario: str) -> bool:
        """Tell whether a scenario is meant for it."""
        return scenario not in OURS_ALONE and (scenario != "v2" or bool(self.v2))

    def start(self, told: Told, logs: Path) -> AbstractContextManager[Running]:
        """Start it in its environment."""
        program, *arguments = self.command
        bin_folder = self.folder / "bin"
        return Program(
            self.name,
            [str(bin_folder / program), *arguments],
            environment=ENVIRONMENT | told.environment() | dict(self.environment),
            log=logs / f"{self.name}.log",
            is_ready=lambda url: answers_rightly(self, url, told.models),
            ready_within_s=READY_WITHIN_S,
        )

    def call(self, model: str, instance: Any, form: str = "json") -> Call:
        """Give a request with one instance."""
        return self.ask(model, instance, form)


class Asked(Protocol):
    """Of a system, how it is asked."""

    @property
    def name(self) -> str:
        """See ``System``."""
        ...

    def call(self, model: str, instance: Any, form: str = "json") -> Call:
        """Give a request with one instance."""
        ...


def answers_rightly(system: Asked, url: str, models: Sequence[str], form: str = "json") -> bool:
    """Tell whether every model is there.

    Raises:
        ServerError: One is there and answers wrongly, so there is nothing to measure.
    """
    return all(_is_right(system, url, model, form) for model in models)


def _is_right(system: Asked, url: str, model: str, form: str) -> bool:
    for instance, wanted in samples(model):
        call = system.call(model, instance, form)
        request = urllib.request.Request(
            url + call.path,
            call.body.replace(MARK.encode(), b"1"),
            dict(call.headers),
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                given = call.read(response.read())
        except urllib.error.HTTPError as error:
            if error.code in _HOPELESS:
                text = error.read()[:500].decode(errors="replace")
                raise ServerError(f"{system.name}: {model} answers {error.code} {text}") from error
            return False
        except OSError:  # not listening yet
            return False
        if not is_close(given, wanted):
            raise ServerError(f"{system.name}: {model} answers {str(given)[:200]}")
    return True
