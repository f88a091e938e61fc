"""``python -m bench.access``: what it costs that callers are known.

Servers with and without keys, side by side in turns. The key has limits of each kind, usage is
kept, and callers take turns. The exit code is 1 if an answer at 64 connections takes more than 5 %
more of the processor.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.load import LoadError
from bench.peers.figures import Book
from bench.peers.modelyard import MEMORY_OFF, OFF, Caching, Cluster, Embedded
from bench.peers.system import Call, System
from bench.processes import ServerError
from bench.report import report
from bench.rows import Row
from bench.turns import Turns, all_running, compare_pairs, measure_in_turns
from tests.support.keys import Keys

MOST = 1.05
LIMITS = ("--rate", "1e6", "--in-flight", "10000", "--per-day", "1e12")
TITLE = ", keys"


class _Keyed:
    """A shape that is asked with a key."""

    key = ""

    def call(self, model: str, instance: Any, form: str = "json") -> Call:
        call: Call = super().call(model, instance, form)  # type: ignore[misc]
        return call._replace(headers={**call.headers, "X-API-Key": self.key})


class KeyedEmbedded(_Keyed, Embedded):
    """``modelyard serve`` with keys."""


class KeyedCluster(_Keyed, Cluster):
    """A cluster with keys."""


def main() -> int:
    """Measure both shapes with and without keys; give the exit code."""
    try:
        return report(_measure_both)
    except (LoadError, ServerError) as error:
        print(f"bench.access: {error}", file=sys.stderr)
        return 1


def _measure_both() -> Iterator[Row]:
    book = Book()
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        keys = Keys(logs)
        keyed = Caching("-keys", TITLE, MEMORY_OFF | keys.settings, is_varied=False)
        _Keyed.key = keys.create("bench", "predict:*", "read", more=LIMITS)
        pairs: list[System] = [
            *(Embedded(OFF), KeyedEmbedded(keyed), Cluster(OFF), KeyedCluster(keyed))
        ]
        running = stack.enter_context(all_running(pairs, logs))
        measure_in_turns(running, Turns(), book)
    yield from compare_pairs(book, title=TITLE, what="keys", most=MOST)


if __name__ == "__main__":
    sys.exit(main())
