"""The plots of ``docs/scaling.md``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from bench.simulate import parameters as p
from bench.simulate import theory
from bench.simulate.arrivals import Times
from bench.simulate.checks import Check, Wait
from bench.simulate.paper import Costs, Need
from bench.simulate.scenarios import SHAPES, Outcome

BINS = 60
COLOURS = {"CPU": "#d55e00", "queue": "#0072b2", "demand": "#009e73"}
LABELS = {"CPU": "CPU at 80 %", "queue": "queue length", "demand": "demand"}
STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "figure.dpi": 110,
}


def save(figure: Figure, file: Path) -> None:
    """Write a figure, the same bytes for the same content."""
    file.parent.mkdir(exist_ok=True)
    figure.savefig(file, metadata={"Software": None}, pil_kwargs={"optimize": True})


def draw_scaling(title: str, outcomes: Sequence[Outcome], timeout_s: float, file: Path) -> None:
    """Draw one model: pods above, latency below, a column for each load."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(13, 6.2), layout="constrained")
        grid = figure.subplots(2, len(SHAPES), sharex="col", sharey="row")
        for column, shape in enumerate(SHAPES):
            above, below = grid[0][column], grid[1][column]
            for outcome in outcomes:
                if outcome.shape == shape.name and outcome.signal in COLOURS:
                    _draw_pods(above, outcome)
                    _draw_latency(below, outcome, shape.length_s)
            first = next(o for o in outcomes if o.shape == shape.name)
            _draw_load(above, first, shape.length_s)
            above.set_title(shape.name)
            below.set_xlabel("minutes")
            below.set_xlim(0, shape.length_s / 60)
            below.set_yscale("log")
            if max(outcome.p99_s for outcome in outcomes) > timeout_s / 10:
                below.axhline(timeout_s, color="black", lw=0.8, ls=":")
        _count_by_hand(grid[1][0])
        grid[0][0].set_ylabel("pods")
        grid[0][0].set_ylim(0)
        grid[1][0].set_ylabel("latency, s (p99 solid, p50 dashed)")
        figure.suptitle(title, fontsize=12)
        handles, labels = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
        save(figure, file)


def _count_by_hand(axes: Axes) -> None:
    """Label a logarithmic axis with 1, 2, 5, 10 … in plain figures."""
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _draw_pods(axes: Axes, outcome: Outcome) -> None:
    at, pods, _ = np.array(outcome.counts).T
    label = LABELS[outcome.signal]
    axes.step(at / 60, pods, where="post", color=COLOURS[outcome.signal], lw=1.6, label=label)


def _draw_load(axes: Axes, outcome: Outcome, length_s: float) -> None:
    edges = np.arange(0, length_s + 1, 60)
    counts, _ = np.histogram(outcome.arrivals, edges)
    busy = counts / 60 / outcome.greatest_rate * outcome.pods_at_peak
    axes.fill_between(
        edges[1:] / 60 - 0.5,
        busy,
        color="#999999",
        alpha=0.35,
        lw=0,
        label="pods that the load keeps busy",
    )


def _draw_latency(axes: Axes, outcome: Outcome, length_s: float) -> None:
    width_s = length_s / BINS
    edges = np.linspace(0, length_s, BINS + 1)
    places = np.digitize(outcome.arrivals, edges)
    for share, line in ((0.99, "-"), (0.5, "--")):
        shown = [_quantile(outcome.latency[places == n], share) for n in range(1, len(edges))]
        middle = (edges[:-1] + width_s / 2) / 60
        axes.plot(middle, shown, line, color=COLOURS[outcome.signal], lw=1.2)


def _quantile(latency: Times, share: float) -> float:
    answered = latency[latency >= 0]
    return float(np.quantile(answered, share)) if len(answered) else np.nan


def draw_theory(checks: Sequence[tuple[Check, Wait]], costs: Costs, file: Path) -> None:
    """Draw waiting against utilisation, and a batching server against the size of its batches.

    ``checks``: queues, and the mean wait that the simulation gives.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(13, 4.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        loads = np.linspace(0.02, 0.97, 200)
        for servers, colour in ((1, "#0072b2"), (4, "#009e73"), (16, "#d55e00")):
            waits = [theory.mmc_wait(load * servers, 1, servers) for load in loads]
            left.plot(loads, waits, color=colour, label=f"M/M/{servers}")
            left.plot(loads, np.array(waits) / 2, "--", color=colour, label=f"M/D/{servers}")
        for number, (check, simulated) in enumerate(checks):
            label = None if number else "simulated"
            left.plot(check.utilisation, simulated.mean_s, "ko", ms=5, label=label, zorder=3)
        left.axvline(p.CPU_TARGET.value, color="black", lw=0.8, ls=":")
        left.set(xlabel="utilisation", ylabel="mean wait / service time", ylim=(0, 6), xlim=(0, 1))
        left.legend(frameon=False, ncols=2)
        left.set_title("Waiting against utilisation")
        sizes = list(range(1, 65))
        for name, cost, colour in (
            ("worker", costs.worker, "#0072b2"),
            ("gateway", costs.gateway, "#009e73"),
            ("broker", costs.broker, "#d55e00"),
        ):
            rates = [
                theory.batch_capacity(n, cost.bundle_us / 1e6, cost.request_us / 1e6) for n in sizes
            ]
            right.plot(sizes, rates, color=colour, label=name)
        right.set(xlabel="requests per bundle", ylabel="requests/s of one core")
        right.set_yscale("log")
        _count_by_hand(right)
        right.set_xlim(0, 64)
        right.legend(frameon=False)
        right.set_title("What one core carries, by the size of its bundles (measured)")
        save(figure, file)


def draw_paper(together: Sequence[Need], apart: Sequence[Need], file: Path) -> None:
    """Draw the cores of each part per thousand requests/s, in one cell and in several."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(13, 4.6), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, needs, title in (
            (left, together, "All around one broker"),
            (right, apart, "In cells"),
        ):
            names = [
                f"{n.models:,} models\n{n.rate:,.0f}/s" + "\nnot reachable" * (not n.is_reachable)
                for n in needs
            ]
            bottom = np.zeros(len(needs))
            for part, colour in (
                ("gateway", "#009e73"),
                ("worker", "#0072b2"),
                ("broker", "#d55e00"),
            ):
                cores = np.array([getattr(n, f"{part}_cores") / n.rate * 1000 for n in needs])
                shown = np.where(np.isinf(cores), 0, cores)
                axes.bar(names, shown, bottom=bottom, color=colour, label=f"{part}s", width=0.6)
                bottom += shown
            for place, one in enumerate(needs):
                if np.isinf(one.cores):
                    axes.text(
                        place,
                        bottom[place],
                        "gateways hear\nnothing but\nannouncements",
                        ha="center",
                        va="bottom",
                    )
            axes.set_title(title)
            axes.grid(visible=False, axis="x")
        left.set_ylabel("cores per 1,000 requests/s")
        right.legend(frameon=False)
        save(figure, file)
