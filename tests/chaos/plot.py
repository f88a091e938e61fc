"""The plot of a run: answers per second over time, each fault marked."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tests.chaos.run import Run

COLOURS = {
    "200": "#8fbf8f",
    "503": "#e0b050",
    "504": "#d07040",
    "502": "#8060b0",
    "lost": "#c00000",
}


def draw(run: Run, path: Path) -> None:
    """Write a PNG."""
    seconds = range(max(run.ledger.seconds, default=0) + 1)
    figure = Figure(figsize=(max(10.0, min(60.0, len(seconds) / 12)), 6.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    base = [0] * len(seconds)
    for status, colour in COLOURS.items():
        heights = [run.ledger.seconds[second][status] for second in seconds]
        tops = [low + height for low, height in zip(base, heights, strict=True)]
        axes.fill_between(seconds, base, tops, step="post", color=colour, label=status, lw=0)
        base = tops
    top = max(base, default=0) * 1.05 + 1
    for began, ended in run.quiet:
        axes.axvspan(began, ended, color="#dddddd", lw=0, zorder=0)
    for fault in run.happened:
        axes.axvspan(
            fault.at_s, max(fault.healed_at_s, fault.at_s + 0.2), color="#4060c0", alpha=0.15
        )
        axes.text(fault.at_s, top, fault.name, rotation=60, fontsize=7, va="bottom")
    axes.set(
        xlim=(0, len(seconds)),
        ylim=(0, top),
        xlabel="seconds (blue: a fault is active; grey: the load pauses, resources are counted)",
        ylabel="answers per second",
    )
    axes.legend(loc="lower left", ncols=len(COLOURS))
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"Chaos, seed {run.seed}", x=0.01, ha="left")
    figure.savefig(path, dpi=100)
