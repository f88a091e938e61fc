"""``python -m bench.console``: how soon pages of the console are there, in Chromium, with 300
models and 10,000 jobs.

Each page is opened in a browser that has been nowhere yet, and again in the same one. First and
largest contentful paint are the browser's own (Performance API), from when the page was asked for.
The exit code is 1 if the slower of the two takes 1 s or more, for any page.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from playwright.sync_api import Page

from bench.made_up import JOBS_KEPT, MODELS
from bench.processes import Server
from bench.report import report
from bench.rows import Limit, Row, row, tell
from tests.support.browser import PHONE, WIDE, Browser

MOST_S = 1.0
PAGES = {
    f"overview, {MODELS} models": "/console",
    "overview, sorted by p99": "/console?sort=p99",
    "a model": "/console/models/model-with-a-name-001",
    f"releases, {MODELS} models": "/console/releases",
    f"jobs, {JOBS_KEPT:,} in the store": "/console/jobs",
    "jobs that failed": "/console/jobs?state=failed",
    "bulk runs": "/console/jobs?kind=bulk",
    "faults": "/console/faults",
}
PAINTS = """() => new Promise((resolve) => {
  const largest = new PerformanceObserver((list) => {
    const first = performance.getEntriesByName("first-contentful-paint")[0];
    const [asked] = performance.getEntriesByType("navigation");
    if (first) resolve([first.startTime, list.getEntries().at(-1).startTime, asked.responseEnd,
      asked.transferSize, asked.decodedBodySize].map((value) => value / 1000));
  });
  largest.observe({ type: "largest-contentful-paint", buffered: true });
})"""


class Seen(NamedTuple):
    """When a page was there, in seconds since it was asked for, and its size, in kB."""

    first_s: float
    largest_s: float
    received_s: float
    sent_kb: float
    size_kb: float


def main() -> int:
    """Measure; give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.console")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    return report(lambda: _measure(options.rounds))


def _measure(rounds: int) -> Iterator[Row]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        command = [sys.executable, "-m", "bench.made_up", "--state", str(folder)]
        tell("making up models and jobs")
        server = stack.enter_context(
            Server("made up", command, environment={}, log=folder / "log", ready_within_s=300)
        )
        browser = stack.enter_context(Browser())
        for what, path in PAGES.items():
            tell(what)
            seen = {"empty": [], "kept": [], "phone": []}  # type: dict[str, list[Seen]]
            for _ in range(rounds):
                for kind, width in (("empty", WIDE), ("phone", PHONE)):
                    page = browser.open(server.url, width=width)
                    seen[kind].append(_look(page, path))
                    if kind == "empty":
                        seen["kept"].append(_look(page, path))
                    page.context.close()
            yield from _rows(what, seen)


def _look(page: Page, path: str) -> Seen:
    page.goto(path)
    return Seen(*page.evaluate(PAINTS))


def _rows(what: str, seen: dict[str, list[Seen]]) -> Iterator[Row]:
    new = seen["empty"]
    size = statistics.median(one.size_kb for one in new)
    sent = statistics.median(one.sent_kb for one in new)
    received = [one.received_s for one in new]
    yield row(f"{what}: received ({size:.0f} kB, {sent:.0f} kB sent)", received, "{:.2f} s")
    limit = Limit("<", MOST_S)
    for kind, name in (("empty", ""), ("kept", ", again"), ("phone", ", on a phone")):
        largest = [max(one.first_s, one.largest_s) for one in seen[kind]]
        first = statistics.median(one.first_s for one in seen[kind])
        yield row(f"{what}{name}: painted (first at {first:.2f} s)", largest, "{:.2f} s", limit)


if __name__ == "__main__":
    sys.exit(main())
