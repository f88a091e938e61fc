"""``python -m bench.peers``: every scenario for every system, into ``docs/benchmarks.md``."""

from __future__ import annotations

import argparse
import datetime
import signal
import sys
from pathlib import Path

from bench.peers.figures import Book
from bench.peers.many import measure_many
from bench.peers.mixed import measure_mixed
from bench.peers.overload import measure_overload
from bench.peers.page import make_tables
from bench.peers.rounds import Bench, Plan
from bench.peers.large import measure_large
from bench.peers.small import measure_small
from bench.peers.slow import measure_slow
from bench.peers.spread import measure_spread
from bench.peers.systems import all_systems, choose
from bench.processes import ROOT
from bench.report import describe_machine

SCENARIOS = {
    "small": measure_small,
    "slow": measure_slow,
    "large": measure_large,
    "many": measure_many,
    "mixed": measure_mixed,
    "overload": measure_overload,
    "spread": measure_spread,
}
FIGURES = ROOT / "build" / "bench" / "figures.json"


def main() -> int:
    """Run what is chosen; give the exit code."""
    options = _parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # through every `finally` on the way
    about = describe_machine(datetime.datetime.now(datetime.UTC))
    systems = choose(options.peers) if options.peers else all_systems()
    plan = Plan(rounds=options.rounds, seconds=options.seconds)
    logs = ROOT / "build" / "bench" / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    book = Book()
    for name in options.scenarios or SCENARIOS:
        SCENARIOS[name](Bench(systems, plan, logs, book))
        book.save(FIGURES, about)
    print(make_tables(book))
    return 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    names = [name for name in SCENARIOS]
    parser.add_argument("--peers", type=_words, help="which systems, with commas; all of them")
    parser.add_argument("--scenarios", type=_words, help=f"of {', '.join(names)}; all of them")
    parser.add_argument("--rounds", type=int, default=Plan().rounds)
    parser.add_argument("--seconds", type=int, default=Plan().seconds, help="of each load")
    return parser.parse_args()


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


if __name__ == "__main__":
    sys.exit(main())
