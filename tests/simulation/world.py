"""One simulation from its beginning to its end: builds the parts, lets the schedule happen, waits
until all is over, asks whether everybody serves again, and stops.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from random import Random
from types import CoroutineType

from modelyard.core.call import Call
from modelyard.core.messages import SERVING
from modelyard.transports.amqp.replies import Delivery
from tests.simulation.cache import SimulatedStore
from tests.simulation.faults import RECOVERY_S, strike
from tests.simulation.ledger import Asked, Ledger
from tests.simulation.loop import Process, Stuck, VirtualLoop
from tests.simulation.network import Network
from tests.simulation.oracle import GRACE_S, Checks, judge_end, judge_rest
from tests.simulation.parts import PORT, Embedded, Front, Gateway, Part, Pooled, Worker
from tests.simulation.rabbitmq.broker import InMemoryBroker
from tests.simulation.schedule import Ask, Fault, Schedule

START_S = 40.0
STOP_S = 60.0
QUIET_S = 150.0  # a hung batch may take several times as long as the longest before it
PROBES = 3


class BrokerProcess:
    """The broker, and the process that it runs in; see ``network.Listener``."""

    def __init__(self, broker: InMemoryBroker, process: Process) -> None:
        self.broker = broker
        self.process = process
        self.accept = broker.accept

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
        self.checks = Checks(self)
        self.fronts: list[Front] = []
        self.workers: list[Worker] = []
        self.parts: list[Part] = []  # all that ever were
        self.faults: list[tuple[float, float, Fault]] = []  # from, until
        self.began = 0.0
        self._lives = count(1)
        self.log_handler = _Log(self)

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
            self.fronts.remove(part)  # type: ignore[arg-type]
        if part in self.workers:
            self.workers.remove(part)  # type: ignore[arg-type]

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
        front.process.soon(front.take, asked)
        self.log(f"client asks {front.name}: {ask}")
        return asked

    def note_answer(self, asked: Asked) -> None:
        """A client got its answer."""
        self.log(f"client got {asked.ask.id}: {asked.code} {asked.outcome!r:.100}")
        self.checks.on_answer(asked)

    # The course of things.

    def run(self) -> list[str]:
        """Let it all happen; gives what is wrong."""
        logger = logging.getLogger("modelyard")
        logger.addHandler(self.log_handler)
        try:
            self.loop.run_until_complete(self._live())
        except Stuck as stuck:
            self.ledger.problem(f"stuck: {stuck}")
        finally:
            logger.removeHandler(self.log_handler)
            gc.collect()  # what was raised in a future that nobody looked at shows only now
            for defect in self.loop.defects:
                self.ledger.problem(f"raised: {defect}")
            self._bury()
        return self.ledger.problems

    async def _live(self) -> None:
        schedule = self.schedule
        for _ in range(schedule.gateways):
            self.add_gateway()
        if not schedule.is_embedded:
            for model in schedule.models:
                for _ in range(model.workers):
                    self.add_worker(model.number)
        if not await self._wait_for(self._is_serving, START_S):
            self.ledger.problem(f"not serving after {START_S} s")
            return
        self.began = self.loop.time()
        self.checks.begin()
        for event in schedule.events:
            if isinstance(event, Ask):
                self.loop.call_at(self.began + event.at, self.ask, event)
            else:
                self.loop.call_at(self.began + event.at, strike, self, event)
        over = max((e.at + getattr(e, "lasts_s", 0.0) for e in schedule.events), default=0.0)
        await asyncio.sleep(over + 0.01)
        await self._until_answered()
        if self.faults:
            await asyncio.sleep(self._recovered_at() - self.loop.time())
        if not await self._wait_for(self._is_serving, RECOVERY_S):
            self.ledger.problem(f"not serving again {RECOVERY_S} s after it should: {self._where()}")
            return
        await self._probe()
        if not await self._wait_for(self._is_quiet, QUIET_S):
            self.ledger.problem(f"something still runs {QUIET_S} s after all is answered")
        await asyncio.sleep(0.7)
        self.broker.purge_expired()
        judge_rest(self)
        await self._end()
        judge_end(self)

    def _recovered_at(self) -> float:
        return max(self.loop.time(), *(until for _, until, _ in self.faults))

    def _is_serving(self) -> bool:
        models = [m for m in self.schedule.models if m.workers or self.schedule.is_embedded]
        for front in self.fronts:
            if front.process.state != "up":
                return False
            if isinstance(front, Gateway) and not front.transport.is_open:
                return False
            for model in models:
                entry = next(
                    (e for e in front.catalog.versions(model.name)
                     if e.target.version == model.version), None
                )  # fmt: skip
                if entry is None or not entry.is_open:
                    return False
        return all(
            worker.consumer.is_consuming and worker.pool._runners.state in SERVING
            for worker in self.workers
        )

    def _is_quiet(self) -> bool:
        slots = [slot for pooled in self.pools() for slot in pooled.pool._runners.slots]
        return not any(slot.batch or not slot.is_ready for slot in slots)

    def _where(self) -> str:
        """Say who is not up."""
        states = []
        for worker in self.workers:
            consuming = worker.consumer.is_consuming
            states.append(f"{worker.name} {worker.pool._runners.state} consuming={consuming}")
        for front in self.fronts:
            entries = front.catalog.entries()
            states.append(f"{front.name} {[(str(e.target), e.announcement.state) for e in entries]}")
        return "; ".join(states)

    async def _until_answered(self) -> None:
        """Wait for all answers, or until they should have come."""
        last = max((asked.deadline for asked in self.ledger.asked), default=0.0) + GRACE_S
        await self._wait_for(self._is_answered, last - self.loop.time() + 0.1)

    def _is_answered(self) -> bool:
        return all(asked.answers or asked.is_excused for asked in self.ledger.asked)

    async def _probe(self) -> None:
        """See that every gateway gets answers from every target again."""
        self.log("probes")
        numbers = count(5_000_000)
        for number, _ in enumerate(self.fronts):
            for model in self.schedule.models:
                if not (model.workers or self.schedule.is_embedded):
                    continue
                for _ in range(PROBES):
                    nonce = next(numbers)
                    ask = Ask(
                        at=0.0, id=str(nonce), nonce=nonce, model=model.number, gateway=number,
                        timeout_s=20.0,
                    )  # fmt: skip
                    self.ask(ask, is_probe=True)
        await asyncio.sleep(0.005)
        await self._until_answered()

    async def _end(self) -> None:
        """Stop everybody in good order."""
        for part in [*self.fronts, *self.workers]:
            self.log(f"{part.name} is told to stop")
            part.stop()
        tasks = [part.done for part in self.parts if part.done and part.process.state != "dead"]
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_S)

    async def _wait_for(self, condition: Callable[[], bool], seconds: float) -> bool:
        give_up = self.loop.time() + seconds
        while not condition():
            if self.loop.time() >= give_up:
                return False
            await asyncio.sleep(0.02)
        return True

    def _bury(self) -> None:
        """Let go of all, also of the dead, whose tasks never end by themselves."""
        self.loop.close()
        logging.getLogger("modelyard").setLevel(logging.CRITICAL + 1)
        for part in self.parts:
            for task in part.process.tasks:
                if not task.done():
                    _bury(task)
        for part in self.parts:
            part.process.tasks.clear()


def _bury(task: asyncio.Task[object]) -> None:
    """Close what a task runs, whose ``finally`` may wait for something again and again."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    work = task.get_coro()
    assert isinstance(work, CoroutineType)
    for _ in range(20):
        if work.cr_frame is None:
            return
        with suppress(BaseException):
            work.close()


class _Log(logging.Handler):
    """Notes what the product logs; an error is a defect."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        error = record.exc_info[1] if record.exc_info else None
        extra = {k: v for k, v in vars(record).items() if k in _EXTRA}
        self._world.log(f"  log {record.levelname.lower()} {record.getMessage()} {extra} {error!r}")
        if record.levelno >= logging.ERROR:
            self._world.ledger.problem(f"logged an error: {record.getMessage()}: {error!r}")


_EXTRA = ("cause", "how", "why", "error", "ids", "reason", "model", "sessions")


def _hash_call(call: Call) -> int:
    return hash(call.request.id)


def _hash_delivery(delivery: Delivery) -> int:
    return delivery.tag


def make_repeatable() -> None:
    """Have sets of calls and deliveries in an order that does not depend on addresses."""
    Call.__hash__ = lambda call: int(call.request.id)  # type: ignore[method-assign]
    Delivery.__hash__ = _hash_delivery  # type: ignore[method-assign, assignment]


def simulate(schedule: Schedule, *, is_verbose: bool = False) -> World:
    """Run one simulation; gives the world as it was at the end."""
    logging.getLogger("modelyard").setLevel(logging.INFO if is_verbose else logging.ERROR)
    logging.getLogger("modelyard").propagate = False
    make_repeatable()
    if gc.isenabled():
        gc.disable()
        gc.freeze()
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None  # of the dead
    world = World(schedule, is_verbose=is_verbose)
    try:
        world.run()
        gc.collect()
    finally:
        sys.unraisablehook = hook
    return world
