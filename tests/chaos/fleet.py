"""The cluster that chaos befalls: a broker, Redis, gateways and workers, each behind what fails."""

from __future__ import annotations

import shutil
import signal
from contextlib import ExitStack
from pathlib import Path

import psutil

from tests.chaos.ledger import Ledger
from tests.chaos.load import Door
from tests.support.broker import Broker
from tests.support.cache import RedisServer
from tests.support.proxy import Proxy
from tests.support.server import ROOT, Member, wait_until

TRICK = ROOT / "tests" / "models" / "trick_model"
GATEWAYS = 2
WORKERS = 3


class Fleet:
    """Everything that a run needs, as long as the ``with`` block.

    Gateway 0 and worker 0 are never ended, so that what they leak can be seen.

    Attributes:
        to_broker: Between gateways and broker, and between workers and broker.
        doors: Where the gateways are.
        past: Members that were ended or killed.
    """

    def __init__(self, folder: Path, ledger: Ledger) -> None:
        self.ledger = ledger
        self.past: list[tuple[str, Member]] = []
        self.gateways: list[Member] = []
        self.workers: list[Member] = []
        self.doors: list[Door] = []
        self._stack = ExitStack()
        self._base = folder

    def __enter__(self) -> Fleet:
        with self._stack:
            enter = self._stack.enter_context
            self.broker = enter(Broker(self._base))
            self.redis = enter(RedisServer(self._base))
            self.to_broker = [enter(Proxy(self.broker.port)) for _ in range(2)]
            self._model = _cacheable(self._base)
            for _ in range(WORKERS):
                self.workers.append(self.start_worker())
            for _ in range(GATEWAYS):
                self.gateways.append(self.start_gateway())
                self.doors.append(Door(self.gateways[-1].url))
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def members(self) -> dict[str, Member]:
        """All gateways and workers, by name."""
        named = {f"gateway {n}": member for n, member in enumerate(self.gateways)}
        return named | {f"worker {n}": member for n, member in enumerate(self.workers)}

    def start_gateway(self) -> Member:
        """Start a gateway, and wait until it knows the model."""
        member = self._start("gateway", settings=self._settings(0))
        wait_until(lambda: _serves(member), what="the model at the gateway")
        return member

    def start_worker(self) -> Member:
        """Start a worker, and wait until it is ready."""
        return self._start("worker", self._model, settings=self._settings(1))

    def replace_the_dead(self) -> None:
        """Note what ended by itself, and go on with others in its place."""
        for number, gateway in enumerate(self.gateways):
            if gateway.process.poll() is not None:
                self.replace_gateway(number)
        for number, worker in enumerate(self.workers):
            if worker.process.poll() is not None:
                self.replace_worker(number)

    def replace_worker(self, number: int) -> None:
        """Put a new worker in the place of one that has ended."""
        self._bury(f"worker {number}", self.workers[number])
        self.workers[number] = self.start_worker()

    def replace_gateway(self, number: int) -> None:
        """Put a new gateway in the place of one that has ended."""
        self._bury(f"gateway {number}", self.gateways[number])
        self.gateways[number] = self.start_gateway()
        self.doors[number] = Door(self.gateways[number].url)

    def _settings(self, way: int) -> dict[str, str]:
        return {
            "MODELYARD_AMQP_URL": self.broker.url_through(self.to_broker[way].port),
            "MODELYARD_REDIS_URL": self.redis.url,
            "MODELYARD_CACHE_BYTES": "0",  # Redis is to be asked
        }

    def _start(self, *command: str | Path, settings: dict[str, str]) -> Member:
        member = self._stack.enter_context(Member(*command, settings=settings))
        wait_until(lambda: member.http.get("/readyz").status_code == 200, what="a ready member")
        return member

    def _bury(self, name: str, member: Member) -> None:
        code = member.stop()  # it has ended already: this is for its output
        if code not in (0, -signal.SIGKILL):
            last = [line for line in member.output.splitlines() if "Error" in line][-1:]
            self.ledger.violate("exit", f"{name} ended with {code} {last}")
        self.past.append((name, member))


def family_of(member: Member) -> list[psutil.Process]:
    """A member's process and its runners'."""
    return [psutil.Process(member.process.pid), *member.runners()]


def _serves(gateway: Member) -> bool:
    return any(
        version["state"] == "ready"
        for version in gateway.http.get("/models/trick_model").json().get("versions", [])
    )


def _cacheable(base: Path) -> Path:
    """Give a model whose answers may be kept, for a short time."""
    folder = Path(shutil.copytree(TRICK, base / "trick_model"))
    manifest = folder / "model.toml"
    manifest.write_text(manifest.read_text().replace("ttl_s = 0", "ttl_s = 5"))
    return folder
