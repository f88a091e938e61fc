"""Runs many seeds; for one that fails, gives the shortest schedule that still does, and the log."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable, Sequence

import msgspec

from tests.simulation.scenario import draw
from tests.simulation.schedule import Event, FaultKind, Schedule
from tests.simulation.simulate import simulate
from tests.simulation.world import World

SHORTEN_S = 40.0


def main(arguments: Sequence[str]) -> int:
    """Run what the command line says; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--from", dest="first", type=int, default=1, help="the first seed")
    parser.add_argument(
        "--mutants", nargs="?", const="", help="show that mutants are found; those with such a name"
    )
    parser.add_argument("--keep-going", action="store_true", help="name all seeds that fail")
    parser.add_argument("--faults", default="", help="only these kinds, with commas")
    parser.add_argument("--verbose", action="store_true", help="print the log of each seed")
    chosen = parser.parse_args(arguments)
    if chosen.mutants is not None:
        from tests.simulation.mutants.hunt import hunt

        return hunt(range(chosen.first, chosen.first + chosen.seeds), only=chosen.mutants)
    return explore(
        range(chosen.first, chosen.first + chosen.seeds),
        is_stopping=not chosen.keep_going,
        is_verbose=chosen.verbose,
        only=[kind for kind in chosen.faults.split(",") if kind],
    )


def explore(
    seeds: Sequence[int],
    *,
    is_stopping: bool = True,
    is_verbose: bool = False,
    only: Sequence[FaultKind] = (),
) -> int:
    """Run seeds until one fails."""
    began, failed, asked, ran = time.monotonic(), 0, 0, 0
    for seed in seeds:
        ran += 1
        world = run(draw(str(seed), only), is_verbose=is_verbose)
        asked += len(world.ledger.asked)
        if is_verbose:
            print("\n".join(world.ledger.lines))
        if world.ledger.problems:
            failed += 1
            if is_stopping:
                report(world.schedule)
                break
            print(
                f"seed {seed}: {world.ledger.problems[0]} (+{len(world.ledger.problems) - 1})",
                flush=True,
            )
    took_s = time.monotonic() - began
    print(
        f"{ran} seeds from {seeds[0]}, {failed} failed; {took_s:.1f} s, "
        f"{ran / took_s:.1f} seeds/s, {asked / took_s:.0f} requests/s"
    )
    return 1 if failed else 0


def run(schedule: Schedule, *, is_verbose: bool = False) -> World:
    """Run a schedule."""
    return simulate(schedule, is_verbose=is_verbose)


def report(schedule: Schedule) -> None:
    """Print the seed, the shortest schedule that still fails, and its log."""
    world = run(schedule)
    print(f"seed {schedule.seed} fails:")
    for problem in world.ledger.problems[:10]:
        print(f"  {problem}")
    kinds = {kind_of(problem) for problem in world.ledger.problems}
    shortest = shorten(
        schedule,
        lambda shorter: any(kind_of(p) in kinds for p in run(shorter).ledger.problems),
    )
    world = run(shortest, is_verbose=True)
    print(f"\n{len(shortest.events)} of {len(schedule.events)} events still fail:")
    for problem in world.ledger.problems[:10]:
        print(f"  {problem}")
    print(msgspec.structs.replace(shortest, events=[]))
    for event in shortest.events:
        print(f"  {event}")
    print("\nlog:")
    print("\n".join(world.ledger.lines))


def kind_of(problem: str) -> str:
    """Give what two failures must share to be of one kind: all but names and numbers."""
    return re.sub(r"[a-z]*\d+[\w.]*", "#", problem)[:40]


def shorten(schedule: Schedule, fails: Callable[[Schedule], bool]) -> Schedule:
    """Give the shortest schedule that still fails, as far as delta debugging finds it."""
    give_up = time.monotonic() + SHORTEN_S

    def still_fails(events: list[Event]) -> bool:
        if time.monotonic() > give_up:
            return False
        return fails(msgspec.structs.replace(schedule, events=events))

    events, pieces = list(schedule.events), 2
    while len(events) > 1:
        size = -(-len(events) // pieces)
        for start in range(0, len(events), size):
            rest = events[:start] + events[start + size :]
            if rest and still_fails(rest):
                events, pieces = rest, max(2, pieces - 1)
                break
        else:
            if size == 1:
                break
            pieces = min(len(events), pieces * 2)
    return msgspec.structs.replace(schedule, events=events)
