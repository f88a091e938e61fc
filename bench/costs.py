"""``python -m bench.costs``: what a request costs, held against ``bench/baseline.json``.

Three costs, each as a share of the bare echo's in the same run: instructions of the interpreter in
the gateway, which are exact; processor time of the gateway alone, in this process, which others on
the machine hardly disturb; and processor time of all processes of a running system, which they do.
The exit code is 1 if one is more than 5 % above the baseline; a system's time that seems so is
measured again, with twice as many rounds more, before it counts.
"""

from __future__ import annotations

import argparse
import datetime
import math
import os
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from bench.baseline import FILE, Baseline
from bench.load import LoadError
from bench.peers.figures import Book
from bench.peers.modelyard import OFF, Cluster, Embedded
from bench.peers.page import make_tables
from bench.peers.system import System
from bench.peers.yardstick import Echo
from bench.processes import ROOT, ServerError
from bench.report import describe_machine, make_table
from bench.rows import Limit, Row, row, tell
from bench.turns import CASES, Case, Turns, all_running, measure_in_turns, ratio, ratios
from tests.unit.gateway_cost import CASES as COUNTED
from tests.unit.gateway_cost import (
    instructions_of,
    instructions_of_echo,
    processor_us_of,
    processor_us_of_echo,
)

RISE = 1.05
TIMINGS = 5  # of the gateway alone; the least counts
ECHO = Echo()
SHAPES: dict[str, System] = {"embedded": Embedded(OFF), "cluster": Cluster(OFF)}
Shares = Mapping[str, float]


def main() -> int:
    """Measure, then compare or write; give the exit code."""
    options = _parse_arguments()
    about = dict(describe_machine(datetime.datetime.now(datetime.UTC)))
    baseline = None if options.write else Baseline.load()
    instructions, gateway, book = _count(), _time(), Book()
    try:
        if not options.gateway_only:
            _measure_systems(book, Turns(options.rounds, options.seconds), baseline)
    except (LoadError, ServerError) as error:
        print(f"bench.costs: {error}", file=sys.stderr)
        return 1
    about["load average"] = f"{os.getloadavg()[1]:.1f} over 5 minutes"
    known = baseline or Baseline({}, {}, {}, {})
    rows = gateway_rows("instructions", instructions, known.instructions)
    rows += gateway_rows("gateway's processor", gateway, known.gateway)
    rows += processor_rows(book, known.processor)
    print("\n".join(f"- {what}: {text}" for what, text in about.items()))
    print(make_table(rows), make_tables(book), sep="\n\n")
    if baseline is None:
        processor = {
            name_of(shape, case): round(_share(book, shape, case), 3)
            for shape in SHAPES
            for case in CASES
        }
        Baseline(about, instructions, gateway, processor).save()
        tell(f"{FILE.relative_to(ROOT)} is written")
    return 1 if any(one.is_kept is False for one in rows) else 0


def _measure_systems(book: Book, turns: Turns, baseline: Baseline | None) -> None:
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        running = stack.enter_context(all_running([ECHO, *SHAPES.values()], logs))
        measure_in_turns(running, turns, book)
        if baseline is not None:
            doubtful = [case for case in CASES if _is_doubtful(book, case, baseline)]
            measure_in_turns(running, turns._replace(rounds=2 * turns.rounds), book, doubtful)


def _count() -> dict[str, float]:
    echo = instructions_of_echo()
    return {case: round(instructions_of(case) / echo, 3) for case in COUNTED}


def _time() -> dict[str, float]:
    tell(f"the gateway alone, {TIMINGS} times")
    echo, least = math.inf, dict.fromkeys(COUNTED, math.inf)
    for _ in range(TIMINGS):
        echo = min(echo, processor_us_of_echo())
        for case in COUNTED:
            least[case] = min(least[case], processor_us_of(case))
    return {case: round(us / echo, 3) for case, us in least.items()}


def name_of(shape: str, case: Case) -> str:
    """Give a figure's name in the baseline."""
    return f"{shape}, {case.title}"


def _share(book: Book, shape: str, case: Case) -> float:
    return ratio(book, case, SHAPES[shape].title, ECHO.title, measure="cpu")


def _is_doubtful(book: Book, case: Case, baseline: Baseline) -> bool:
    return any(
        _share(book, shape, case) > RISE * baseline.processor[name_of(shape, case)]
        for shape in SHAPES
    )


def _limit(name: str, baseline: Shares) -> Limit | None:
    return Limit("≤", RISE * baseline[name]) if name in baseline else None


def gateway_rows(what: str, shares: Shares, baseline: Shares) -> list[Row]:
    """Hold a cost of the gateway alone against what is known of it."""
    return [
        row(f"{what}, {case}: of the echo's", [share], "{:.3f}", _limit(case, baseline))
        for case, share in shares.items()
    ]


def processor_rows(book: Book, baseline: Shares) -> list[Row]:
    """Hold the processor time of all processes against what is known of it."""
    return [
        row(
            f"processor, {name_of(shape, case)}: of the echo's",
            values,
            "{:.2f}",
            _limit(name_of(shape, case), baseline),
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
        "--gateway-only", action="store_true", help="start no server: takes ten seconds"
    )
    parser.add_argument("--rounds", type=int, default=Turns().rounds)
    parser.add_argument("--seconds", type=int, default=Turns().seconds, help="of each load")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
