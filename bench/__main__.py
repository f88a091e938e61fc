"""``python -m bench``: every scenario in turn, one table, one page.

The exit code is 1 if a limit is missed or something could not be measured.
"""

from __future__ import annotations

import argparse
import datetime
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from bench.cluster import measure_cluster
from bench.kills import measure_kills
from bench.load import LoadError
from bench.neighbours import measure_neighbours
from bench.page import PAGE, write_own_part
from bench.processes import ROOT, ServerError
from bench.report import describe_machine, make_page, make_table
from bench.rows import QUICK, Plan, Row, tell
from bench.speed import measure_speed
from bench.start import measure_start

SCENARIOS = {
    "speed": measure_speed,
    "neighbours": measure_neighbours,
    "kills": measure_kills,
    "cluster": measure_cluster,
    "start": measure_start,
}


def main() -> int:
    """Run the benchmark; give the exit code."""
    options = _parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # through every `finally` on the way
    plan = QUICK if options.quick else Plan()
    about = describe_machine(datetime.datetime.now(datetime.UTC))
    rows: list[Row] = []
    with ExitStack() as stack:
        logs = options.logs or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        logs.mkdir(parents=True, exist_ok=True)
        try:
            for name in options.only or SCENARIOS:
                rows += SCENARIOS[name](plan, logs)
        except (LoadError, ServerError) as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130
    print(make_table(rows))
    if not (options.no_write or options.only):
        PAGE.parent.mkdir(exist_ok=True)
        write_own_part(PAGE, make_page(rows, about, plan))
        tell(f"{PAGE.relative_to(ROOT)} is written")
    missed = [row.what for row in rows if row.is_kept is False]
    for what in missed:
        print(f"missed: {what}", file=sys.stderr)
    return 1 if missed else 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure Modelyard beside a bare ASGI echo; takes some seven minutes.",
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument(
        "--no-write", action="store_true", help="print the table, leave docs/benchmarks.md alone"
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=SCENARIOS,
        help="run this scenario (again for more); implies --no-write",
    )
    parser.add_argument(
        "--logs", type=Path, metavar="FOLDER", help="keep there what the servers say"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
