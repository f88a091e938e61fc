"""One simulation from its beginning to its end: builds the parts, lets the schedule happen, waits
until all is over, asks whether everybody serves again, and stops.
"""

from __future__ import annotations

import asyncio
from itertools import count
from random import Random

from tests.simulation.cache import SimulatedStore
from tests.simulation.checks import Checks
from tests.simulation.jobs.clients import Client
from tests.simulation.jobs.database import Database
from tests.simulation.ledger import Asked, Ledger
from tests.simulation.loop import Process, VirtualLoop
from tests.simulation.network import Network
from tests.simulation.part import PORT, Part
from tests.simulation.parts import Embedded, Front, Gateway, Worker
from tests.simulation.pooled import Pooled
from tests.simulation.rabbitmq.broker import InMemoryBroker
from tests.simulation.schedule import Ask, JobAsk, Schedule, Struck

START_S = 40.0
STOP_S = 60.0
QUIET_S = 150.0  # a hung batch may take several times as long as the longest before it
PROBES = 3


class BrokerProcess:
    """The broker, and the process that it runs in; see ``network.Listener``."""

    def __init__(self, broker: InMemoryBroker, process: Process) -> None:
        self.broker = broker
        self.process = process

    def accept(self) -> asyncio.Protocol:
        """Give the protocol of a new connection."""
        return self.broker.accept()

    @property
    def is_listening(self) -> bool:
        """Whether it takes connections."""
        return self.broker.is_listening


class World:
    """All that there is.

    Args:
        schedule: What there is, and what happens.
        is_verbose: Whether a log is kept.
    """

    def __init__(self, schedule: Schedule, *, is_verbose: bool = False) -> None:
        self.schedule = schedule
        self.loop = VirtualLoop()
        self.ledger = Ledger()
        self.ledger.is_verbose = is_verbose
        self.network = Network(self.loop, self.chance("network"), latency_s=schedule.latency_s)
        self.broker_process = Process("broker", self.loop)
        self.broker = InMemoryBroker(
            clock=self.loop.time,
            chance=self.chance("broker"),
            confirm_delay_s=schedule.confirm_delay_s,
        )
        self.network.listeners[PORT] = BrokerProcess(self.broker, self.broker_process)
        has_store = schedule.has_far_cache
        self.store = SimulatedStore(self.loop, self.chance("store")) if has_store else None
        has_jobs = any(isinstance(event, JobAsk) for event in schedule.events)
        self.database = Database(self.loop, self.chance("database")) if has_jobs else None
        self.checks = Checks(self)
        self.fronts: list[Front] = []
        self.workers: list[Worker] = []
        self.parts: list[Part] = []  # all that ever were
        self.processes: list[Process] = []  # of runners, also those that are gone
        self.run_numbers = count(1)
        self.chance_of_calls = self.chance("calls")
        self.faults: list[Struck] = []
        self.began = 0.0
        self._lives = count(1)

    def chance(self, name: str) -> Random:
        """Give a source of chance that depends on nothing but the seed and a name."""
        return Random(f"{self.schedule.seed}:{name}")

    def log(self, text: str) -> None:
        """Keep a line of the log."""
        self.ledger.log(self.loop.time() - self.began, text)

    # Parts come and go.

    def add_gateway(self) -> Front:
        """Start a gateway, or the process that is everything."""
        kind = Embedded if self.schedule.is_embedded else Gateway
        front = kind(self, f"g{next(self._lives)}")
        self.fronts.append(front)
        self._start(front)
        return front

    def add_worker(self, model: int) -> Worker:
        """Start a worker of a model."""
        worker = Worker(self, f"w{next(self._lives)}", self.schedule.models[model])
        self.workers.append(worker)
        self._start(worker)
        return worker

    def _start(self, part: Part) -> None:
        self.parts.append(part)
        self.log(f"{part.name} starts")
        part.start()

    def kill(self, part: Part) -> None:
        """End a part without a word."""
        self.log(f"{part.name} is killed")
        part.kill()
        self._remove(part)

    def stop(self, part: Part) -> None:
        """Tell a part to stop."""
        self.log(f"{part.name} is told to stop")
        part.stop()
        self._remove(part)

    def _remove(self, part: Part) -> None:
        if part in self.fronts:
            self.fronts.remove(part)
        if part in self.workers:
            self.workers.remove(part)

    def pools(self) -> list[Pooled]:
        """Give the pools of all parts that are there."""
        pools = [worker.pooled for worker in self.workers]
        for front in self.fronts:
            if isinstance(front, Embedded):
                pools += front.pools
        return pools

    def has_retries(self) -> bool:
        """Whether a request may be asked again by itself: a flight's deadline was not the last."""
        ids = [asked.ask.id for asked in self.ledger.asked if asked.code == "deadline_exceeded"]
        return bool(ids)

    # Clients.

    def ask(self, ask: Ask, *, is_probe: bool = False) -> Asked | None:
        """Have a client ask a gateway that is up."""
        up = [front for front in self.fronts if front.is_ready]
        if not up:
            return None
        front = up[ask.gateway % len(up)]
        asked = Asked(ask, gateway=front.name, at=self.loop.time(), is_probe=is_probe)
        self.ledger.asked.append(asked)
        for nonce in range(ask.nonce, ask.nonce + ask.instances) if ask.nonce > 0 else ():
            self.ledger.by_nonce[nonce] = asked
        front.process.soon(front.take, asked)
        self.log(f"client asks {front.name}: {ask}")
        return asked

    def submit(self, ask: JobAsk) -> None:
        """Have a client submit a job."""
        self.log(f"client submits {ask}")
        Client(self, ask).submit()

    def note_answer(self, asked: Asked) -> None:
        """A client got its answer."""
        self.log(f"client got {asked.ask.id}: {asked.code} {asked.outcome!r:.100}")
        self.checks.on_answer(asked)
