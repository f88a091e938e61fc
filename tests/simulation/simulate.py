"""Runs one schedule in a world of its own; the same schedule goes the same way each time."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from contextlib import suppress
from types import CoroutineType
from unittest import mock

from modelyard.core.call import Call
from modelyard.transports.amqp.replies import Delivery
from tests.simulation.calls.http import virtual_time
from tests.simulation.course import Course
from tests.simulation.jobs.scenario import DATABASE_FAULTS
from tests.simulation.loop import Stuck
from tests.simulation.schedule import Schedule
from tests.simulation.world import World

log = logging.getLogger("modelyard")


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
        """Keep a record, but none of runners: each has a log of its own."""
        if record.name.startswith("modelyard.runner"):
            return
        error = record.exc_info[1] if record.exc_info else None
        extra = {k: v for k, v in vars(record).items() if k in _EXTRA}
        self._world.log(f"  log {record.levelname.lower()} {record.getMessage()} {extra} {error!r}")
        kinds = {struck.fault.kind for struck in self._world.faults}
        if record.getMessage() in _OF_DATABASE and not kinds.isdisjoint(DATABASE_FAULTS):
            return
        if record.getMessage() == "calls_in_a_circle":
            return
        if record.levelno >= logging.ERROR:
            self._world.ledger.problem(f"logged an error: {record.getMessage()}: {error!r}")


_OF_DATABASE = ("jobs_stand_still", "jobs_not_kept", "jobs_not_finished")
_EXTRA = ("cause", "how", "why", "error", "ids", "reason", "model", "sessions")


def _hash_call(call: Call) -> int:
    id_ = call.request.id
    return int(id_) if id_.isdecimal() else int(id_, 16)


def _hash_delivery(delivery: Delivery) -> int:
    return delivery.tag


def make_repeatable() -> None:
    """Have sets of calls and deliveries in an order that does not depend on addresses."""
    Call.__hash__ = _hash_call  # type: ignore[method-assign, assignment]
    Delivery.__hash__ = _hash_delivery  # type: ignore[method-assign, assignment]


def simulate(schedule: Schedule, *, is_verbose: bool = False) -> World:
    """Run one simulation; gives the world as it was at the end."""
    log.setLevel(logging.INFO if is_verbose else logging.ERROR)
    log.propagate = False
    make_repeatable()
    if gc.isenabled():
        gc.disable()
        gc.freeze()
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None  # of the dead
    world = World(schedule, is_verbose=is_verbose)
    handler = _Log(world)
    log.addHandler(handler)
    try:
        with (
            mock.patch("os.sched_yield"),  # a runner that is simulated needs no processor
            mock.patch("os.register_at_fork"),  # what is registered stays for ever, with its world
            mock.patch("modelyard.calling.caller.time", virtual_time),
            mock.patch("modelyard.calling.caller.random", world.chance_of_calls),
        ):
            world.loop.run_until_complete(Course(world).run())
    except Stuck as stuck:
        world.ledger.problem(f"stuck: {stuck}")
    finally:
        log.removeHandler(handler)
        gc.collect()  # what was raised in a future that nobody looked at shows only now
        for defect in world.loop.defects:
            world.ledger.problem(f"raised: {defect}")
        _bury_all(world)
        gc.collect()
        sys.unraisablehook = hook
    return world


def _bury_all(world: World) -> None:
    """Let go of all, also of the dead, whose tasks never end by themselves."""
    world.loop.close()
    log.setLevel(logging.CRITICAL + 1)
    for process in [*(part.process for part in world.parts), *world.processes]:
        for task in process.tasks:
            if not task.done():
                _bury(task)
        process.tasks.clear()
