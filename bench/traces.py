"""``python -m bench.traces``: what traces cost.

Servers without traces, and with traces of one request in a hundred, side by side in turns. The exit
code is 1 if an answer at 64 connections takes more than 2 % more of the processor.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from bench.load import LoadError
from bench.peers.figures import Book
from bench.peers.modelyard import MEMORY_OFF, OFF, Caching, Cluster, Embedded
from bench.peers.system import System
from bench.processes import ServerError
from bench.report import report
from bench.rows import Row, row
from bench.turns import Turns, all_running, compare_pairs, measure_in_turns
from tests.support.collector import Collector

MOST = 1.02
RATE = "0.01"
TITLE = ", traces"


def main() -> int:
    """Measure both shapes with and without traces; give the exit code."""
    try:
        return report(_measure_both)
    except (LoadError, ServerError) as error:
        print(f"bench.traces: {error}", file=sys.stderr)
        return 1


def _measure_both() -> Iterator[Row]:
    book = Book()
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        collector = stack.enter_context(Collector())
        settings = {
            "MODELYARD_TRACES": "otlp",
            "MODELYARD_TRACES_URL": collector.url,
            "MODELYARD_TRACES_RATE": RATE,
        }
        traced = Caching("-traces", TITLE, MEMORY_OFF | settings, is_varied=False)
        pairs: list[System] = [Embedded(OFF), Embedded(traced), Cluster(OFF), Cluster(traced)]
        running = stack.enter_context(all_running(pairs, logs))
        measure_in_turns(running, Turns(), book)
        yield row("spans that came to the collector", [len(collector.spans)], "{:,.0f}")
    yield from compare_pairs(book, title=TITLE, what="traces", most=MOST)


if __name__ == "__main__":
    sys.exit(main())
