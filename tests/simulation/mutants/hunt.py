"""Shows that mutants are found."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tests.simulation.explore import run
from tests.simulation.mutants.amqp import AMQP
from tests.simulation.mutants.calls import CALLS
from tests.simulation.mutants.core import CORE
from tests.simulation.mutants.jobs import JOBS
from tests.simulation.mutants.mutant import Mutant, applied
from tests.simulation.mutants.streams import STREAMS
from tests.simulation.scenario import draw
from tests.simulation.schedule import Fault

MUTANTS = (*CORE, *AMQP, *STREAMS, *JOBS, *CALLS)


def find(mutant: Mutant, seeds: Sequence[int]) -> tuple[int, str] | None:
    """Give the first seed that finds a mutant, and by what."""
    for seed in seeds:
        schedule = draw(str(seed))
        kinds = {event.kind for event in schedule.events if isinstance(event, Fault)}
        if mutant.needs and kinds.isdisjoint(mutant.needs):
            continue
        with applied(mutant):
            problems = run(schedule).ledger.problems
        if problems and not run(schedule).ledger.problems:
            return seed, problems[0]
    return None


def hunt(seeds: Sequence[int], *, only: str = "") -> int:
    """Show that each mutant whose name holds ``only`` is found; gives the exit code."""
    missed = 0
    chosen = [mutant for mutant in MUTANTS if only in mutant.name]
    for mutant in chosen:
        began = time.monotonic()
        found = find(mutant, seeds)
        took_s = time.monotonic() - began
        if found is None:
            missed += 1
            print(f"MISSED in {len(seeds)} seeds: {mutant.name} ({took_s:.0f} s)", flush=True)
        else:
            print(f"seed {found[0]:4}: {mutant.name} ({found[1]:.90})", flush=True)
    print(f"{len(chosen)} mutants, {missed} missed")
    return 1 if missed else 0
