"""``python -m bench.costs``: what a request costs, held against ``bench/baseline.json``.

Costs are instructions of the interpreter in the gateway, which are exact, and processor time of all
processes, which is not. All are shares of the bare echo's in the same run. The exit code is 1 if
one is more than 5 % above the baseline; a processor time that seems so is measured again, with
twice as many rounds more, before it counts.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.baseline import FILE, Baseline
from bench.load import LoadError
from bench.peers.figures import Book
from bench.peers.modelyard import OFF, Cluster, Embedded
from bench.peers.page import make_tables
from bench.peers.system import Running, System
from bench.peers.yardstick import Echo
from bench.processes import ROOT, ServerError
from bench.report import describe_machine, make_table
from bench.rows import Limit, Row, row
from bench.turns import CASES, Case, Turns, all_running, measure_in_turns, ratio, ratios
from tests.unit.instructions import CASES as COUNTED
from tests.unit.instructions import instructions_of, instructions_of_echo

RISE = 1.05
ECHO = Echo()
SHAPES: dict[str, System] = {"embedded": Embedded(OFF), "cluster": Cluster(OFF)}
Up = Sequence[tuple[System, Running]]


def main() -> int:
    """Measure, then compare or write; give the exit code."""
    options = _parse_arguments()
    about = dict(describe_machine(datetime.datetime.now(datetime.UTC)))
    baseline = None if options.write else Baseline.load()
    shares = _count()
    book, turns = Book(), Turns(options.rounds, options.seconds)
    try:
        if not options.instructions_only:
            with ExitStack() as stack:
                logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                running = stack.enter_context(all_running([ECHO, *SHAPES.values()], logs))
                measure_in_turns(running, turns, book)
                if baseline is not None:
                    _measure_again(running, turns, book, baseline)
    except (LoadError, ServerError) as error:
        print(f"bench.costs: {error}", file=sys.stderr)
        return 1
    about["load average"] = f"{os.getloadavg()[1]:.1f} over 5 minutes"
    rows = instruction_rows(shares, baseline) + processor_rows(book, baseline)
    print("\n".join(f"- {what}: {text}" for what, text in about.items()))
    print(make_table(rows), make_tables(book), sep="\n\n")
    if baseline is None:
        processor = {
            name_of(shape, case): round(_share(book, shape, case), 3)
            for shape in SHAPES
            for case in CASES
        }
        Baseline(about, shares, processor).save()
        print(f"{FILE.relative_to(ROOT)} is written", file=sys.stderr)
    return 1 if any(one.is_kept is False for one in rows) else 0


def _count() -> dict[str, float]:
    echo = instructions_of_echo()
    return {case: round(instructions_of(case) / echo, 3) for case in COUNTED}


def name_of(shape: str, case: Case) -> str:
    """Give a figure's name in the baseline."""
    return f"{shape}, {case.title}"


def _share(book: Book, shape: str, case: Case) -> float:
    return ratio(book, case, SHAPES[shape].title, ECHO.title, measure="cpu")


def _measure_again(running: Up, turns: Turns, book: Book, baseline: Baseline) -> None:
    doubtful = [
        case
        for case in CASES
        if any(
            _share(book, shape, case) > RISE * baseline.processor[name_of(shape, case)]
            for shape in SHAPES
        )
    ]
    measure_in_turns(running, turns._replace(rounds=2 * turns.rounds), book, doubtful)


def instruction_rows(shares: dict[str, float], baseline: Baseline | None) -> list[Row]:
    """Hold each case's instructions against the baseline, if there is one."""
    return [
        row(
            f"instructions, {case}: of the echo's",
            [share],
            "{:.3f}",
            None if baseline is None else Limit("≤", RISE * baseline.instructions[case]),
        )
        for case, share in shares.items()
    ]


def processor_rows(book: Book, baseline: Baseline | None) -> list[Row]:
    """Hold each case's processor time against the baseline, if there is one."""
    return [
        row(
            f"processor, {name_of(shape, case)}: of the echo's",
            values,
            "{:.2f}",
            None
            if baseline is None
            else Limit("≤", RISE * baseline.processor[name_of(shape, case)]),
        )
        for case in CASES
        for shape, system in SHAPES.items()
        if (values := ratios(book, case, system.title, ECHO.title, measure="cpu"))
    ]


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.costs", description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--write", action="store_true", help="write the baseline anew")
    what.add_argument(
        "--instructions-only", action="store_true", help="start no server: takes a second"
    )
    parser.add_argument("--rounds", type=int, default=Turns().rounds)
    parser.add_argument("--seconds", type=int, default=Turns().seconds, help="of each load")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
