"""``python -m bench.peers``: every scenario for every system, into ``docs/benchmarks.md``."""

from __future__ import annotations

import argparse
import datetime
import json
import signal
import subprocess
import sys

from bench.page import PAGE, write_peers_part
from bench.peers.figures import Book
from bench.peers.goals import Goals
from bench.peers.large import measure_large
from bench.peers.many import measure_many
from bench.peers.mixed import measure_mixed
from bench.peers.overload import measure_overload
from bench.peers.page import make_section, make_tables
from bench.peers.rounds import Bench, Plan
from bench.peers.slow import measure_slow
from bench.peers.small import measure_small
from bench.peers.spread import measure_spread
from bench.peers.system import Peer
from bench.peers.systems import all_systems, choose, versions_of
from bench.peers.v2 import measure_v2
from bench.processes import ROOT
from bench.report import describe_machine, make_table
from bench.rows import tell

SCENARIOS = {
    "small": measure_small,
    "slow": measure_slow,
    "large": measure_large,
    "many": measure_many,
    "mixed": measure_mixed,
    "overload": measure_overload,
    "spread": measure_spread,
    "v2": measure_v2,
}
BUILD = ROOT / "build" / "bench"
FIGURES, PLOTS = BUILD / "figures.json", PAGE.parent / "benchmarks"


def main() -> int:
    """Run what is chosen; give the exit code."""
    options = _parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # through every `finally` on the way
    about = describe_machine(datetime.datetime.now(datetime.UTC))
    systems = choose(options.peers) if options.peers else all_systems()
    about.append(("peers", versions_of(systems)))
    bench = Bench(systems, Plan(options.rounds, options.seconds), BUILD / "logs", Book())
    bench.logs.mkdir(parents=True, exist_ok=True)
    try:
        for name in options.scenarios or SCENARIOS:
            SCENARIOS[name](bench)
    except KeyboardInterrupt:
        return 130
    finally:
        bench.book.save(FIGURES, about)
    goals = Goals(bench.book, [one.title for one in all_systems() if isinstance(one, Peer)]).rows()
    print(make_table(goals), make_tables(bench.book), sep="\n\n")
    if not (options.no_write or options.peers or options.scenarios):
        section = make_section(bench.book, about, bench.plan, goals, _draw())
        write_peers_part(PAGE, section)
        tell(f"{PAGE.relative_to(ROOT)} is written")
    missed = [goal.what for goal in goals if goal.is_kept is False]
    for what in missed:
        print(f"missed: {what}", file=sys.stderr)
    return 1 if missed or bench.book.notes else 0


def _draw() -> list[tuple[str, str]]:
    """Draw the pictures; give titles and paths as the page links them."""
    command = [sys.executable, "-m", "bench.peers.plots", str(FIGURES), str(PLOTS)]
    said = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    drawn = [json.loads(line) for line in said.splitlines()]
    return [(title, f"{PLOTS.name}/{name}") for title, name in drawn]


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--peers", type=_words, help="which systems, with commas; all of them")
    parser.add_argument("--scenarios", type=_words, help=f"of {', '.join(SCENARIOS)}; all of them")
    parser.add_argument(
        "--no-write", action="store_true", help="print the tables, leave docs/benchmarks.md alone"
    )
    parser.add_argument("--rounds", type=int, default=Plan().rounds)
    parser.add_argument("--seconds", type=int, default=Plan().seconds, help="of each load")
    return parser.parse_args()


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


if __name__ == "__main__":
    sys.exit(main())
