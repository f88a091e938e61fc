"""``python -m tests.chaos``: see ``make chaos``. The exit code is 1 if anything must not be."""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
from itertools import takewhile
from pathlib import Path

from rich.console import Console

from tests.chaos.faults import FAULTS
from tests.chaos.plan import make_plan
from tests.chaos.report import print_tables, write_files
from tests.chaos.run import Run
from tests.support.server import ROOT

FOLDER = ROOT / "build" / "chaos"


def main() -> int:
    """Run chaos; give the exit code."""
    options = _parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # through every `finally` on the way
    console = Console()
    seed = random.randrange(1 << 16) if options.seed is None else options.seed
    console.print(f"seed {seed}: [bold]make chaos MINUTES={options.minutes:g} SEED={seed}[/bold]")
    with tempfile.TemporaryDirectory() as folder:
        run = Run(seed, Path(folder), console.print)
        steps = make_plan(seed, options.faults)
        run.carry_out(takewhile(lambda _: run.ledger.now_s < options.minutes * 60, steps))
    plot = write_files(run, FOLDER)
    print_tables(run, console)
    console.print(f"{plot.relative_to(ROOT)}, and beside it all figures and the logs")
    return 1 if run.ledger.violations else 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description="Mix faults at random under load."
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="how long (5)")
    parser.add_argument("--seed", type=int, help="of all that is drawn; else one is drawn itself")
    parser.add_argument(
        "--faults", nargs="*", choices=FAULTS, default=[], metavar="FAULT", help="only these"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
