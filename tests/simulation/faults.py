"""What breaks, and how: each kind of fault, and how long it takes until all is well again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from modelyard.core.names import Target
from modelyard.transports.amqp import envelope
from modelyard.transports.amqp.topology import REPLIES, queue_name
from tests.simulation import links
from tests.simulation.allowed import ALLOWED, SILENT
from tests.simulation.links import later
from tests.simulation.part import Part
from tests.simulation.parts import Worker
from tests.simulation.pooled import Pooled
from tests.simulation.rabbitmq.queue import Queue
from tests.simulation.schedule import Fault, FaultKind, Model, Struck

if TYPE_CHECKING:
    from tests.simulation.world import World

LOADS = ("load_fails", "load_crashes", "load_hangs", "no_room")
LONGEST_PAUSE_S = 5.0
RECOVERY_S = 12.0
SLOW_RECOVERY_S = 45.0  # where a silence must be found by heartbeats
_SLOW: frozenset[FaultKind] = frozenset(
    ("silent", "half_open", "damage", "hang_broker", "freeze_gateway", "freeze_worker")
)
_INSTANT: frozenset[FaultKind] = frozenset(
    (
        *("cache_slow", "cache_away", "cache_full", "cache_damaged", "junk", "add_worker"),
        *("database_away", "database_dumb"),
    )
)


def strike(world: World, fault: Fault) -> None:
    """Have a fault happen."""
    now = world.loop.time()
    recovery_s = RECOVERY_S
    if fault.kind in _SLOW:
        recovery_s = SLOW_RECOVERY_S
    elif fault.kind in _INSTANT:
        recovery_s = 0.1
    until = now + fault.lasts_s + recovery_s
    world.faults.append(Struck(now, until, fault, _allowed(world, fault)))
    world.log(f"FAULT {fault}")
    _STRIKES[fault.kind](world, fault)


def _allowed(world: World, fault: Fault) -> set[str]:
    """Give what clients may see of a fault, beside their answers."""
    model = None
    if fault.kind == "stop_worker" and (worker := _worker(world, fault)) is not None:
        model = worker.model
    elif fault.kind in LOADS:
        model = _model(world, fault)
        now = world.loop.time()
        if any(
            struck.fault.kind in LOADS
            and struck.until > now
            and _model(world, struck.fault) is model
            for struck in world.faults
        ):
            return ALLOWED[fault.kind]  # a mate that still consumes may be about to fail as well
    mates = [worker for worker in world.workers if worker.model is model]
    if len(mates) > 1 and all(mate.consumer.is_consuming for mate in mates):
        return set()  # others can run it
    if fault.kind == "freeze_worker" and fault.lasts_s > LONGEST_PAUSE_S:
        # What it has is with nobody else until the broker gives it up; and it is given up itself.
        return SILENT | {"model_not_ready"}
    return ALLOWED[fault.kind]


def _model(world: World, fault: Fault) -> Model:
    """Return the model that is meant."""
    return world.schedule.models[fault.whose % len(world.schedule.models)]


# Runners.


def _pool(world: World, fault: Fault) -> Pooled | None:
    """Give a pool of the model that is meant."""
    model = _model(world, fault)
    pools = [p for p in world.pools() if p.model is model and p.part.process.state == "up"]
    return pools[fault.amount % len(pools)] if pools else None


def _kill_runner(world: World, fault: Fault) -> None:
    pooled = _pool(world, fault)
    if pooled is not None and pooled.launcher.live:
        live = pooled.launcher.live
        live[fault.amount % len(live)].killed_from_outside()


def _spoil_loads(name: str) -> Callable[[World, Fault], None]:
    def strike_(world: World, fault: Fault) -> None:
        pooled = _pool(world, fault)
        if pooled is None:
            return
        trouble = pooled.launcher.trouble
        setattr(trouble, name, True)
        later(world, fault, lambda: setattr(trouble, name, False))
        _kill_runner(world, fault)

    return strike_


# Parts.


def _worker(world: World, fault: Fault) -> Worker | None:
    up = [worker for worker in world.workers if worker.process.state == "up"]
    return up[fault.whose % len(up)] if up else None


def _kill_worker(world: World, fault: Fault) -> None:
    worker = _worker(world, fault)
    if worker is not None:
        number = worker.model.number
        world.kill(worker)
        later(world, fault, lambda: world.add_worker(number))


def _stop_worker(world: World, fault: Fault) -> None:
    """Replace a worker: the new one first if ``amount`` says so."""
    worker = _worker(world, fault)
    if worker is None:
        return
    number = worker.model.number
    if fault.amount % 2:
        world.add_worker(number)
        later(world, fault, lambda: world.stop(worker) if worker in world.workers else None)
    else:
        world.stop(worker)
        later(world, fault, lambda: world.add_worker(number))


def _sleep(world: World, fault: Fault) -> None:
    """Stop all workers of a model that may sleep, and start one later, as an autoscaler does."""
    models = world.schedule.models
    model = models[fault.whose % len(models)]
    workers = [w for w in world.workers if w.model is model and w.process.state == "up"]
    if model.scale_to_zero and workers:
        for worker in workers:
            world.stop(worker)
        later(world, fault, lambda: world.add_worker(model.number))


def _add_worker(world: World, fault: Fault) -> None:
    if not world.schedule.is_embedded:
        world.add_worker(fault.whose % len(world.schedule.models))


def _freeze(world: World, fault: Fault, part: Part | None) -> None:
    if part is not None:
        part.process.freeze()
        later(world, fault, part.process.thaw)


def _gateway(world: World, fault: Fault) -> Part | None:
    up = [front for front in world.fronts if front.process.state == "up"]
    return up[fault.whose % len(up)] if up else None


def _kill_gateway(world: World, fault: Fault) -> None:
    gateway = _gateway(world, fault)
    if gateway is not None:
        world.kill(gateway)
        later(world, fault, world.add_gateway)


def _stop_gateway(world: World, fault: Fault) -> None:
    gateway = _gateway(world, fault)
    if gateway is not None:
        world.add_gateway()
        later(world, fault, lambda: world.stop(gateway) if gateway in world.fronts else None)


# The broker.


def _on_broker(world: World, deed: Callable[[], object]) -> None:
    world.broker_process.soon(deed)


def _end_broker(*, is_polite: bool) -> Callable[[World, Fault], None]:
    def strike_(world: World, fault: Fault) -> None:
        if world.broker.is_listening:
            world.broker.stop(is_polite=is_polite)
            later(world, fault, world.broker.start)

    return strike_


def _hang_broker(world: World, fault: Fault) -> None:
    world.broker_process.freeze()
    later(world, fault, world.broker_process.thaw)


def _alarm(world: World, fault: Fault) -> None:
    _on_broker(world, lambda: world.broker.set_alarm(True))
    later(world, fault, lambda: _on_broker(world, lambda: world.broker.set_alarm(False)))


def _delete_queue(world: World, fault: Fault) -> None:
    model = world.schedule.models[fault.whose % len(world.schedule.models)]
    priority = "high" if fault.amount % 4 == 1 else "normal"
    name = queue_name(Target(model.name, model.version), priority)  # type: ignore[arg-type]

    def delete() -> None:
        world.broker.delete_queue(name)

    _on_broker(world, delete)


def _own_queues(world: World, prefix: str) -> list[Queue]:
    return [queue for name, queue in world.broker.queues.items() if name.startswith(prefix)]


def _delete_own_queue(world: World, fault: Fault) -> None:
    prefix = ("replies.", "catalog.", "hello.")[fault.amount % 3]
    queues = _own_queues(world, prefix)
    if queues:
        queue = queues[fault.whose % len(queues)]
        _on_broker(world, lambda: world.broker.delete(queue))


def _unbind(world: World, fault: Fault) -> None:
    """Have no answers reach a gateway, whose reply queue is there."""
    queues = _own_queues(world, "replies.")
    if queues:
        queue = queues[fault.whose % len(queues)]
        _on_broker(world, lambda: world.broker.exchanges[REPLIES].unbind(queue))


def _full_queue(world: World, fault: Fault) -> None:
    name = f"full{world.loop.time()}"
    _on_broker(
        world,
        lambda: world.broker.set_policy(name, r"^infer\.", max_length=fault.amount % 4 // 2),
    )
    later(world, fault, lambda: _on_broker(world, lambda: world.broker.clear_policy(name)))


def _junk(world: World, fault: Fault) -> None:
    """Put onto a reply queue what nobody asked for."""
    queues = _own_queues(world, "replies.")
    if not queues:
        return
    queue = queues[fault.whose % len(queues)]
    forged = envelope.encode([envelope.Answer(key, b"[666]") for key in range(900_000, 900_010)])
    kinds = [
        ("nonsense", b"x"),
        (envelope.ANSWERS, b"\xff\xff"),
        (envelope.ANSWERS, bytes(forged)),
        (envelope.REFUSAL, bytes(envelope.encode(("x",)))),
    ]
    kind, body = kinds[fault.amount % len(kinds)]
    from modelyard.transports.amqp.frames import Properties, header_frame

    header = header_frame(Properties(message_type=kind), len(body))[7:-1]
    _on_broker(
        world,
        lambda: world.broker.publish(
            REPLIES, queue.name, header=header, body=[body], expires=None, is_persistent=False
        ),
    )


# The cache.


def _cache(name: str) -> Callable[[World, Fault], None]:
    def strike_(world: World, fault: Fault) -> None:
        store = world.store
        if store is not None:
            setattr(store, name, True)
            later(world, fault, lambda: setattr(store, name, False))

    return strike_


# The database.


def _database(name: str) -> Callable[[World, Fault], None]:
    def strike_(world: World, fault: Fault) -> None:
        database = world.database
        if database is not None:
            setattr(database, name, True)
            later(world, fault, lambda: setattr(database, name, False))

    return strike_


_STRIKES: dict[FaultKind, Callable[[World, Fault], None]] = {
    "kill_runner": _kill_runner,
    "load_fails": _spoil_loads("load_fails"),
    "load_crashes": _spoil_loads("load_crashes"),
    "load_hangs": _spoil_loads("load_hangs"),
    "no_room": _spoil_loads("no_room"),
    "kill_worker": _kill_worker,
    "freeze_worker": lambda world, fault: _freeze(world, fault, _worker(world, fault)),
    "stop_worker": _stop_worker,
    "add_worker": _add_worker,
    "sleep": _sleep,
    "kill_gateway": _kill_gateway,
    "freeze_gateway": lambda world, fault: _freeze(world, fault, _gateway(world, fault)),
    "stop_gateway": _stop_gateway,
    "restart_broker": _end_broker(is_polite=True),
    "crash_broker": _end_broker(is_polite=False),
    "hang_broker": _hang_broker,
    "alarm": _alarm,
    "delete_queue": _delete_queue,
    "delete_own_queue": _delete_own_queue,
    "unbind": _unbind,
    "full_queue": _full_queue,
    "junk": _junk,
    **links.STRIKES,
    "cache_slow": _cache("is_slow"),
    "cache_away": _cache("is_away"),
    "cache_full": _cache("is_full"),
    "cache_damaged": _cache("is_damaged"),
    "database_away": _database("is_away"),
    "database_dumb": _database("is_dumb"),
}
