"""What scenarios share: rounds in which every system has its turn, and one timed load."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

from bench.load import LoadError, Seen, run_load
from bench.peers.figures import Book
from bench.peers.system import Call, Running, System
from bench.processes import ServerError, cpu_s_of
from bench.rows import tell

MIB = 1024 * 1024
LONG = ("many",)  # scenarios of which one round takes as long as all others of another


class Plan(NamedTuple):
    """How long everything takes."""

    rounds: int = 5
    seconds: int = 5
    warm_up_s: int = 2


class Bench(NamedTuple):
    """What a scenario gets."""

    systems: Sequence[System]
    plan: Plan
    logs: Path
    book: Book

    def turns(self, scenario: str) -> Iterator[System]:
        """Give every system once a round; no place in the round is always the same one's."""
        able = []
        for system in self.systems:
            if not system.joins(scenario):
                continue
            if reason := system.missing():
                self.book.note(scenario, system.title, reason)
            else:
                able.append(system)
        rounds = 1 if scenario in LONG else self.plan.rounds
        for number in range(rounds):
            first = number % max(1, len(able))
            for system in able[first:] + able[:first]:
                tell(f"{scenario}, round {number + 1} of {rounds}: {system.title}")
                yield system

    @contextmanager
    def noting(self, scenario: str, system: System) -> Iterator[None]:
        """Note what goes wrong with one system, so that the others are measured all the same."""
        try:
            yield
        except (LoadError, ServerError, AssertionError, psutil.Error) as error:
            text = str(error).strip().splitlines()
            tell(f"{system.title}: {error}")
            self.book.note(scenario, system.title, text[-1] if text else repr(error))


def load(
    running: Running,
    call: Call,
    *,
    connections: int,
    seconds: int,
    has_equal_heads: bool = False,
) -> Seen:
    """Send ``call`` over ``connections`` for ``seconds``."""
    return run_load(
        running.url,
        call.body,
        path=call.path,
        headers=call.headers,
        connections=connections,
        seconds=seconds,
        has_equal_heads=has_equal_heads,
    )


def timed(
    running: Running,
    call: Call,
    *,
    connections: int,
    seconds: int,
    has_equal_heads: bool = False,
) -> dict[str, float]:
    """Load, and give the figures by measure.

    Raises:
        LoadError: Nothing was answered.
    """
    return figures_of(
        running,
        lambda: load(
            running, call, connections=connections, seconds=seconds, has_equal_heads=has_equal_heads
        ),
    )


def figures_of(running: Running, send: Callable[[], Seen]) -> dict[str, float]:
    """Give the figures of a load by measure.

    Raises:
        LoadError: Nothing was answered.
    """
    before = cpu_s_of(running.tree())
    seen = send()
    cpu_s = cpu_s_of(running.tree()) - before
    right = seen.answers - seen.unexpected
    if right <= 0:
        raise LoadError("no right answer")
    return {
        "rate": right / seen.duration_s,
        "p50": seen.p50_ms,
        "p99": seen.p99_ms,
        "cpu": cpu_s / right * 1e6,
        "failed": seen.failures,
    }


def resident_mib(processes: Sequence[psutil.Process]) -> tuple[float, float]:
    """Give the resident memory of ``processes``: the sum, and with shared pages divided."""
    rss = pss = 0
    for process in processes:
        try:
            memory = process.memory_full_info()
        except psutil.Error:  # it ended meanwhile
            continue
        rss, pss = rss + memory.rss, pss + memory.pss
    return rss / MIB, pss / MIB
