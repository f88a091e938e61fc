"""A few hundred fixed seeds and some new ones, and a few mutants with the seeds that find them."""

from __future__ import annotations

import random

import msgspec
import pytest

from tests.simulation import explore
from tests.simulation.mutants.hunt import MUTANTS, find
from tests.simulation.mutants.mutant import Mutant
from tests.simulation.scenario import draw
from tests.simulation.schedule import Fault, Schedule

FIXED = 175
BLOCK = 25
NEW = 25
ONCE = {
    241: "a first piece in time, but after the time of all of them",
    455: "requests that were late when the batch that they were in failed",
    6187: "room beside a suspect that runs elsewhere",
    2348: "a stream that was under way when its queue was deleted",
    1291: "a suspect beside batches that another runner had under way",
}
"""Seeds that have failed, beyond the fixed ones."""


def check(seeds: range) -> None:
    """See that no seed fails; one that does is printed with its shortest schedule and the log."""
    for seed in seeds:
        world = explore.run(draw(str(seed)))
        if world.ledger.problems:
            explore.report(world.schedule)
            pytest.fail(f"seed {seed}: {world.ledger.problems[0]}")


@pytest.mark.parametrize("first", range(1, FIXED, BLOCK))
def test_what_is_promised_holds_for_fixed_seeds(first: int) -> None:
    check(range(first, first + BLOCK))


@pytest.mark.parametrize("seed", ONCE, ids=ONCE.values())
def test_what_has_failed_does_not_fail_again(seed: int) -> None:
    check(range(seed, seed + 1))


def test_what_is_promised_holds_for_new_seeds() -> None:
    first = random.SystemRandom().randrange(10_000, 10_000_000)
    print(f"make explore SEEDS={NEW} FROM={first}")
    check(range(first, first + NEW))


def short() -> list[Mutant]:
    """Those that an early seed finds."""
    return [mutant for mutant in MUTANTS if 0 < mutant.seed <= FIXED]


@pytest.mark.parametrize("mutant", short(), ids=lambda mutant: mutant.name)
def test_a_defect_is_found(mutant: Mutant) -> None:
    assert find(mutant, [mutant.seed]) is not None


def test_a_seed_gives_the_same_log_again() -> None:
    for seed in (1, 2, 3, 4, 7):
        first, second = (explore.run(draw(str(seed)), is_verbose=True) for _ in range(2))
        assert first.ledger.lines == second.ledger.lines
        assert len(first.ledger.lines) > 10


def test_a_schedule_is_shortened_to_what_fails() -> None:
    schedule = draw("1")
    events = [*schedule.events, Fault(at=1.0, kind="junk"), Fault(at=2.0, kind="alarm")]

    def fails(shorter: Schedule) -> bool:
        kinds = {event.kind for event in shorter.events if isinstance(event, Fault)}
        return {"junk", "alarm"} <= kinds

    longer = msgspec.structs.replace(schedule, events=events)
    shortest = explore.shorten(longer, fails)
    assert len(shortest.events) == 2
