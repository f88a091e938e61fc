"""``python -m bench.payloads``: what a payload log costs the gateway.

Servers side by side in turns: without one, with one of 10 % and of all requests, and of all
requests where nothing can be kept, since the disk is full. The exit code is 1 if an answer at 64
connections takes more of the gateway's processor than it may. The writer's is not counted.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from bench.load import LoadError
from bench.peers.figures import Book
from bench.peers.modelyard import MEMORY_OFF, OFF, Caching, Embedded
from bench.processes import ServerError
from bench.report import report
from bench.rows import Limit, Row, row
from bench.turns import Case, Turns, all_running, measure_in_turns, ratios
from tests.support.disk import full_disk

CASE = Case(64, has_equal_heads=False)
LIMITS = {"10 %": 1.05, "100 %": None, "100 %, disk full": 1.02}


def main() -> int:
    """Measure all of them; give the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=Turns().rounds)
    parser.add_argument("--seconds", type=int, default=Turns().seconds)
    options = parser.parse_args()
    turns = Turns(options.rounds, options.seconds, warm_up_s=8)  # until the buffers are full
    try:
        return report(lambda: _measure(turns))
    except (LoadError, ServerError) as error:
        print(f"bench.payloads: {error}", file=sys.stderr)
        return 1


def _measure(turns: Turns) -> Iterator[Row]:
    book = Book()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        full = stack.enter_context(full_disk(folder / "full"))
        places = {"10 %": (0.1, folder / "some"), "100 %": (1.0, folder / "all")}
        places["100 %, disk full"] = (1.0, full)
        systems = [Embedded(OFF)]
        for number, (title, (rate, place)) in enumerate(places.items()):
            file = folder / f"{number}.toml"
            file.write_text(f'url = "{place}"\nrate = {rate}\nchunk_s = 1\nmemory_mb = 4\n')
            settings = MEMORY_OFF | {"MODELYARD_PAYLOAD_LOG_FILE": str(file)}
            systems.append(Embedded(Caching(f"-{number}", f", {title}", settings, is_varied=False)))
        running = stack.enter_context(all_running(systems, folder / "logs"))
        measure_in_turns(running, turns, book, [CASE])
    plain = systems[0].title
    for title, most in LIMITS.items():
        limit = None if most is None else Limit("≤", most)
        values = ratios(book, CASE, f"{plain}, {title}", plain, measure="cpu_gateway")
        yield row(f"payload log of {title}: µs of the gateway's processor", values, "{:.3f}", limit)
    for system in systems:
        found = book.find("turns", CASE.title, system.title, "cpu_gateway")
        if found is not None:
            yield row(f"{system.title}: µs of the gateway's processor", found.values, "{:.1f}")


if __name__ == "__main__":
    sys.exit(main())
