"""Systems side by side: all of them up, one loaded at a time, in turns within one run.

What they cost is compared round by round, so that whatever else the machine does meanwhile is the
same for all. Processor time says more than the clock where others use the machine too.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

from bench.load import LoadError
from bench.peers.figures import Book
from bench.peers.rounds import load
from bench.peers.samples import instance_of
from bench.peers.system import Running, System
from bench.peers.told import Told
from bench.processes import cpu_s_of
from bench.rows import Limit, Row, row, tell

MODEL = "iris"
SCENARIO = "turns"
PARTS = ("gateway", "runner", "worker")


class Case(NamedTuple):
    """How a system is asked."""

    connections: int
    has_equal_heads: bool

    @property
    def title(self) -> str:
        """What the tables call it."""
        plural = "" if self.connections == 1 else "s"
        heads = "equal" if self.has_equal_heads else "differing"
        return f"{self.connections} connection{plural}, {heads} heads"


CASES = tuple(Case(connections, equal) for connections in (64, 1) for equal in (False, True))


class Turns(NamedTuple):
    """How often and how long each system is loaded in each case."""

    rounds: int = 7
    seconds: int = 3
    warm_up_s: int = 2


@contextmanager
def all_running(systems: Sequence[System], logs: Path) -> Iterator[list[tuple[System, Running]]]:
    """Start all of ``systems``; each has given right answers."""
    logs.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        told = Told(models=(MODEL,))
        yield [(system, stack.enter_context(system.start(told, logs))) for system in systems]


def measure_in_turns(
    running: Sequence[tuple[System, Running]],
    turns: Turns,
    book: Book,
    cases: Iterable[Case] = CASES,
) -> None:
    """Load one after the other. No place in a round is always the same one's, nor does one system
    always come right behind the same other one.

    Raises:
        LoadError: A request failed, or none was answered.
    """
    for case in cases:
        for system, server in running:
            call = system.call(MODEL, instance_of(MODEL))
            load(server, call, connections=case.connections, seconds=turns.warm_up_s)
        for number in range(turns.rounds):
            first = number % len(running)
            busy = os.getloadavg()[0]
            tell(f"{case.title}, round {number + 1} of {turns.rounds}, load average {busy:.1f}")
            order = [*running[first:], *running[:first]]
            for system, server in reversed(order) if number % 2 else order:
                figures = _timed(system, server, case, turns.seconds)
                book.add(SCENARIO, case.title, system.title, **figures)


def ratios(book: Book, case: Case, ours: str, theirs: str, *, measure: str) -> list[float]:
    """Give one ratio for each round."""
    found = [book.find(SCENARIO, case.title, title, measure) for title in (ours, theirs)]
    if None in found:
        return []
    return [a / b for a, b in zip(*(one.values for one in found if one), strict=True)]


def ratio(book: Book, case: Case, ours: str, theirs: str, *, measure: str) -> float:
    """Give the median of the rounds' ratios."""
    return statistics.median(ratios(book, case, ours, theirs, measure=measure))


def _timed(system: System, running: Running, case: Case, seconds: int) -> dict[str, float]:
    processes = _parts_of(running)
    before = {part: cpu_s_of(members) for part, members in processes.items()}
    seen = load(
        running,
        system.call(MODEL, instance_of(MODEL)),
        connections=case.connections,
        seconds=seconds,
        has_equal_heads=case.has_equal_heads,
    )
    used = {part: cpu_s_of(members) - before[part] for part, members in processes.items()}
    if seen.failures or not seen.answers:
        raise LoadError(f"{system.title}: {seen.failures} of {seen.answers} failed: {seen.sample}")

    def per_answer(cpu_s: float) -> float:
        return cpu_s / seen.answers * 1e6

    return {
        "rate": seen.rate,
        "p50": seen.p50_ms,
        "p99": seen.p99_ms,
        "cpu": per_answer(sum(used.values())),
        "cpu_client": per_answer(seen.client_cpu_s),
        **{f"cpu_{part}": per_answer(cpu_s) for part, cpu_s in used.items() if part},
    }


def _parts_of(running: Running) -> dict[str, list[psutil.Process]]:
    """Give the processes of a system by what they are; those without a title of ours under ''."""
    support = running.support()
    parts: dict[str, list[psutil.Process]] = {"broker": support} if support else {}
    for process in running.tree():
        if process not in support:
            parts.setdefault(_part_of(process), []).append(process)
    return parts


def _part_of(process: psutil.Process) -> str:
    words = " ".join(process.cmdline()[:1]).split()
    is_ours = len(words) > 1 and words[0] == "modelyard:" and words[1] in PARTS
    return words[1] if is_ours else ""


def compare_pairs(book: Book, *, title: str, what: str, most: float) -> Iterator[Row]:
    """Give the processor time of both shapes with something, beside that without.

    ``title``: what the systems with it have after their name; ``what``: it, in words; ``most``: the
    limit at 64 connections.
    """
    for case in CASES:
        for shape in ("embedded", "cluster"):
            plain = f"Modelyard {shape}"
            limit = Limit("≤", most) if case.connections == 64 else None
            values = ratios(book, case, plain + title, plain, measure="cpu")
            compared = f"{shape}, {case.title}: processor, with {what} / without"
            yield row(compared, values, "{:.3f}", limit)
