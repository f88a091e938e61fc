"""Draws the figures of a run; matplotlib stays out of the process that measures:

``python -m bench.peers.plots FIGURES.json FOLDER``; says which pictures it made, a JSON line each.
"""

from __future__ import annotations

import io
import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "modelyard"  # the same picture from the same figures
from matplotlib import pyplot as plt  # noqa: E402  (after the choice of how to draw)
from matplotlib.figure import Figure  # noqa: E402

OURS, THEIRS = "#1f6f8b", "#b8b8b8"
# Scenario, case, measure, title, file.
BARS = [
    ("small", "64 connections", "rate", "Small, 64 connections: answers/s", "small-64"),
    ("small", "1 connection", "p50", "Small, 1 connection: p50, ms", "small-1"),
    ("small", "64 connections", "cpu", "Small: µs of processor per answer", "cpu"),
    ("memory", "after the load", "rss", "RSS of all processes, MiB", "memory"),
    ("start", "to the first answer", "start", "From the command to the first answer, s", "start"),
    ("large", "JSON", "rate", "Large, JSON: answers/s", "large-json"),
    ("mixed", "the fast model beside the busy slow one", "p99", "Mixed: fast p99, ms", "mixed"),
    ("overload", "2 ms per instance, twice the capacity", "share", "Overload: in time", "overload"),
]


def main() -> None:
    """Draw what there are figures for."""
    figures = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["figures"]
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    for scenario, case, measure, title, name in BARS:
        wanted = (scenario, case, measure)
        chosen = {
            one["system"]: one["values"]
            for one in figures
            if (one["scenario"], one["case"], one["measure"]) == wanted
        }
        if chosen:
            _draw_bars(chosen, title, folder / f"{name}.svg")
            print(json.dumps([title, f"{name}.svg"]))
    if spread := [
        one for one in figures if (one["scenario"], one["measure"]) == ("spread", "rate")
    ]:
        title = "Spread: answers/s by number of model processes"
        _draw_spread(spread, title, folder / "spread.svg")
        print(json.dumps([title, "spread.svg"]))


def _draw_bars(chosen: dict[str, list[float]], title: str, path: Path) -> None:
    """Draw medians as bars, with whiskers from the least to the greatest."""
    names = list(chosen)
    middles = [statistics.median(chosen[name]) for name in names]
    spread = [
        [middle - min(chosen[name]) for name, middle in zip(names, middles, strict=True)],
        [max(chosen[name]) - middle for name, middle in zip(names, middles, strict=True)],
    ]
    colours = [OURS if name.startswith("Modelyard") else THEIRS for name in names]
    figure, axes = plt.subplots(figsize=(8, 0.4 * len(names) + 1), layout="constrained")
    axes.barh(names, middles, xerr=spread, color=colours, ecolor="#444444", capsize=3)
    axes.invert_yaxis()
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def _draw_spread(spread: list[dict[str, Any]], title: str, path: Path) -> None:
    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    for system in dict.fromkeys(one["system"] for one in spread):
        points = [
            (int(one["case"].split()[0]), statistics.median(one["values"]))
            for one in spread
            if one["system"] == system
        ]
        axes.plot(*zip(*points, strict=True), marker="o", label=system)
    axes.set_title(title)
    axes.legend()
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    drawn = io.StringIO()
    figure.savefig(drawn, metadata={"Date": None})
    plt.close(figure)
    path.write_text(compact(drawn.getvalue()), encoding="utf-8")


def compact(svg: str) -> str:
    """Write each path on one line, with two decimals: matplotlib takes a line for each segment."""
    return re.sub(r' d="([^"]*)"', lambda path: f' d="{_compact_path(path[1])}"', svg)


def _compact_path(path: str) -> str:
    rounded = re.sub(r"-?\d+\.\d+", lambda number: f"{float(number[0]):.2f}", path)
    return " ".join(rounded.split())


if __name__ == "__main__":
    main()
