"""``python -m bench.against CHECKOUT``: this code beside that of another checkout, in turns.

The other checkout needs a ``.venv`` with what the models need (``make setup-dev`` there). The exit
code is 1 if this code is more than 5 % worse: processor time per answer at both numbers of
connections, with equal heads and with differing ones. The clock's ratios are printed beside it.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from bench.load import LoadError
from bench.peers.figures import Book
from bench.peers.modelyard import OFF, Cluster, Embedded
from bench.peers.page import make_tables
from bench.peers.system import System
from bench.peers.systems import choose
from bench.peers.yardstick import Echo
from bench.processes import ServerError
from bench.report import describe_machine, make_table
from bench.rows import Limit, Row, row
from bench.turns import CASES, Case, Turns, all_running, measure_in_turns, ratios

WORST = 1.05
SHAPES: dict[str, type[Embedded] | type[Cluster]] = {"embedded": Embedded, "cluster": Cluster}
MEASURES = {
    "cpu": "µs of processor",
    "rate": "answers/s",
    "p50": "p50",
}


def main() -> int:
    """Measure both; give the exit code."""
    options = _parse_arguments()
    program = options.checkout / ".venv" / "bin" / "modelyard"
    if not program.exists():
        print(f"bench.against: {program} is not there; `make setup-dev` in it", file=sys.stderr)
        return 2
    systems: list[System] = [Echo(), *(choose(options.peers) if options.peers else [])]
    for shape in options.shapes:
        systems.append(SHAPES[shape](OFF, program=str(program), label="old"))
        systems.append(SHAPES[shape](OFF, label="new"))
    about = describe_machine(datetime.datetime.now(datetime.UTC))
    cases = [case for case in CASES if case.connections in options.connections]
    book, turns = Book(), Turns(options.rounds, options.seconds)
    before = os.getloadavg()
    try:
        with ExitStack() as stack:
            logs = options.logs or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            running = stack.enter_context(all_running(systems, logs))
            measure_in_turns(running, turns, book, cases)
    except (LoadError, ServerError) as error:
        print(f"bench.against: {error}", file=sys.stderr)
        return 1
    about.append(("load average", f"{before[0]:.1f} before, {os.getloadavg()[0]:.1f} after"))
    rows = list(_compare(book, options.shapes, cases))
    print("\n".join(f"- {what}: {text}" for what, text in about))
    print(make_table(rows), make_tables(book), sep="\n\n")
    if options.json:
        book.save(options.json, about)
    return 1 if any(one.is_kept is False for one in rows) else 0


def _compare(book: Book, shapes: Iterable[str], cases: Iterable[Case]) -> Iterable[Row]:
    for case in cases:
        for shape in shapes:
            old, new = (f"Modelyard {shape}, {label}" for label in ("old", "new"))
            for measure, what in MEASURES.items():
                limit = Limit("≤", WORST) if measure == "cpu" else None
                values = ratios(book, case, new, old, measure=measure)
                yield row(f"{shape}, {case.title}: {what}, new / old", values, "{:.3f}", limit)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.against", description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--rounds", type=int, default=Turns().rounds)
    parser.add_argument("--seconds", type=int, default=Turns().seconds, help="of each load")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--connections", nargs="+", type=int, choices=(64, 1), default=[64, 1])
    parser.add_argument("--peers", nargs="+", help="other systems in the same rounds, as mosec")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    parser.add_argument("--logs", type=Path, metavar="FOLDER", help="keep what the servers say")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
