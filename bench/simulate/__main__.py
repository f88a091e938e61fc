"""``python -m bench.simulate``, or ``make simulate``: tables and plots of ``docs/scaling.md``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context

from bench.rows import tell
from bench.simulate import page
from bench.simulate.checks import CHECKS, simulate_trial
from bench.simulate.comparison import Comparison, compare
from bench.simulate.data import Measured, load
from bench.simulate.paper import cells_for, costs_of, need
from bench.simulate.plots import draw_paper, draw_scaling, draw_theory
from bench.simulate.scenarios import (
    READY_ONLY,
    SHAPES,
    SIGNALS,
    SUBJECTS,
    WAITING,
    Outcome,
    Subject,
    manifest_of,
    run,
)

LOADS = ((3, 1e3), (3, 1e5), (100, 1e4), (100, 1e5), (1000, 1e5), (1000, 1e6))
SLOW_ONES = ("slow_iris_model", WAITING)  # for which scaling on ready messages alone is shown


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the page again; gives the exit code."""
    options = _parse(arguments)
    if options.measure:
        from bench.simulate.measure import measure

        measure()
    measured = load()
    compared: list[Comparison] = []
    found = dict(_tables(measured, [s for s in SUBJECTS if s.name in options.only], compared))
    text = page.PAGE.read_text(encoding="utf-8")
    for name, made in found.items():
        text = page.put(text, name, made)
    page.PAGE.write_text(text, encoding="utf-8")
    wrong = [one.demand[:2] for one in compared if not one.is_as_known]
    for subject, shape in wrong:
        tell(f"demand, {subject}, {shape}: not what comparison.py says is held or missed")
    return int(bool(wrong))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.simulate",
        description="Simulate autoscaling and write docs/scaling.md's tables and plots.",
    )
    names = [subject.name for subject in SUBJECTS]
    parser.add_argument("--measure", action="store_true", help="measure first (five minutes)")
    parser.add_argument(
        "--only", nargs="*", choices=names, default=names, help="simulate these models alone"
    )
    return parser.parse_args(arguments)


def _tables(
    measured: Measured, subjects: Sequence[Subject], compared: list[Comparison]
) -> Iterator[tuple[str, str]]:
    """Make the tables, and the plots beside them; ``compared`` gets what demand comes to."""
    if len(subjects) == len(SUBJECTS):
        yield "origin", page.origin()
    yield "parameters", page.parameters()
    yield "times", page.measured_times(measured)
    yield "levels", page.levels(measured)
    costs = costs_of(measured)
    yield "costs", page.costs(costs)
    checks = [(check, check.simulated()) for check in CHECKS]
    yield "checks", page.checks(checks)
    draw_theory(checks, costs, page.FOLDER / "theory.png")
    yield "trials", page.trials([simulate_trial(trial) for trial in measured.trials])
    together = [need(costs, models=models, rate=rate) for models, rate in LOADS]
    apart = [
        need(costs, models=models, rate=rate, cells=cells_for(costs, models=models, rate=rate))
        for models, rate in LOADS
    ]
    yield "together", page.paper(together)
    yield "apart", page.paper(apart)
    yield "models", page.models_work(measured)
    draw_paper(together, apart, page.FOLDER / "paper.png")
    yield from _scaling(measured, subjects, compared)


def _scaling(
    measured: Measured, subjects: Sequence[Subject], compared: list[Comparison]
) -> Iterator[tuple[str, str]]:
    jobs = [
        (subject, shape, signal)
        for subject, shape in product(subjects, SHAPES)
        for signal in (*SIGNALS, *([READY_ONLY] if subject.name in SLOW_ONES else []))
    ]
    # Not forked: a caller may have threads.
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as processes:
        running = [processes.submit(run, measured, *job) for job in jobs]
        outcomes: dict[str, list[Outcome]] = {subject.name: [] for subject in subjects}
        for future in running:
            outcome = future.result()
            tell(f"{outcome.subject}: {outcome.shape}, {outcome.signal}")
            outcomes[outcome.subject].append(outcome)
    for subject in subjects:
        done = outcomes[subject.name]
        compared += compare(done)
        yield subject.name, page.scaling(done)
        rows = f"{subject.rows} row{'s' * (subject.rows > 1)} a request"
        title = f"{subject.name}, {rows}, up to {done[0].greatest_rate:,.1f} requests/s"
        timeout_s = manifest_of(subject).limits.timeout_s
        draw_scaling(title, done, timeout_s, page.FOLDER / f"{subject.name}.png")
    if len(subjects) == len(SUBJECTS):
        yield "comparison", page.comparison(compared)


if __name__ == "__main__":
    sys.exit(main())
