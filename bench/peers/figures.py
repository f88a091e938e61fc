"""What was measured: one figure per round for each measure, system and case of a scenario."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple


class Measure(NamedTuple):
    """What a figure means: its heading, how it is written, and whether more is better."""

    title: str
    form: str


MEASURES = {
    "rate": Measure("answers/s", "{:,.0f}"),
    "p50": Measure("p50, ms", "{:.2f}"),
    "p99": Measure("p99, ms", "{:.2f}"),
    "cpu": Measure("µs of processor per answer", "{:,.0f}"),
    "cpu_gateway": Measure("of that, gateway", "{:,.0f}"),
    "cpu_runner": Measure("runner", "{:,.0f}"),
    "cpu_worker": Measure("worker", "{:,.0f}"),
    "cpu_broker": Measure("broker", "{:,.0f}"),
    "cpu_client": Measure("µs of the client's own", "{:,.1f}"),
    "failed": Measure("failed", "{:,.0f}"),
    "ideal": Measure("share of the ideal", "{:.0%}"),
    "start": Measure("s to the first answer", "{:.2f}"),
    "rss": Measure("RSS, MiB", "{:,.0f}"),
    "rss_support": Measure("RSS of that in broker and Redis, MiB", "{:,.0f}"),
    "pss": Measure("PSS, MiB", "{:,.0f}"),
    "capacity": Measure("capacity, answers/s", "{:,.0f}"),
    "offered": Measure("offered, requests/s", "{:,.0f}"),
    "in_time": Measure("answered in time, /s", "{:,.0f}"),
    "share": Measure("in time, share of the capacity", "{:.0%}"),
    "refused": Measure("refused, share of the offered", "{:.0%}"),
    "refusal_p99": Measure("p99 of refusals, ms", "{:,.1f}"),
    "lost": Measure("late or failed, share of the offered", "{:.0%}"),
    "sent_late": Measure("sent late by the client, p99, ms", "{:.2f}"),
    "idle": Measure("MiB of an idle model", "{:.1f}"),
}


class Figure(NamedTuple):
    """One system's figures for one measure: ``values`` has one per round."""

    scenario: str
    case: str
    system: str
    measure: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle of the rounds."""
        return statistics.median(self.values)

    @property
    def text(self) -> str:
        """The median, with the least and the greatest where there are several."""
        form = MEASURES[self.measure].form
        text = form.format(self.median)
        if len(self.values) == 1:
            return text
        return f"{text} ({form.format(min(self.values))} to {form.format(max(self.values))})"

    def ratio(self, other: Figure) -> float | None:
        """Give the median of the ratios within each round: what slows a round, slows both.

        None where a round lacks one of the two.
        """
        if len(self.values) != len(other.values) or not all(other.values):
            return None
        return statistics.median(
            mine / its for mine, its in zip(self.values, other.values, strict=True)
        )


class Book:
    """Collects figures, and what could not be measured."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str, str, str], list[float]] = {}
        self.notes: list[tuple[str, str, str]] = []

    def add(self, scenario: str, case: str, system: str, **values: float) -> None:
        """Add one round's figures by measure."""
        for measure, value in values.items():
            assert measure in MEASURES
            self._values.setdefault((scenario, case, system, measure), []).append(value)

    def note(self, scenario: str, system: str, text: str) -> None:
        """Say why there is no figure."""
        if (scenario, system, text) not in self.notes:
            self.notes.append((scenario, system, text))

    def __iter__(self) -> Iterator[Figure]:
        return (Figure(*key, tuple(values)) for key, values in self._values.items())

    def find(self, scenario: str, case: str, system: str, measure: str) -> Figure | None:
        """Give a figure, if it was measured."""
        values = self._values.get((scenario, case, system, measure))
        return Figure(scenario, case, system, measure, tuple(values)) if values else None

    def save(self, path: Path, about: list[tuple[str, str]]) -> None:
        """Write all of it, with the machine's description, as JSON."""
        content: dict[str, Any] = {
            "about": about,
            "figures": [figure._asdict() for figure in self],
            "notes": self.notes,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> tuple[Book, list[tuple[str, str]]]:
        """Give what ``save`` wrote: the book and the machine's description."""
        content = json.loads(path.read_text(encoding="utf-8"))
        book = cls()
        for one in content["figures"]:
            key = (one["scenario"], one["case"], one["system"], one["measure"])
            book._values[key] = one["values"]
        book.notes = [tuple(note) for note in content["notes"]]
        return book, [tuple(line) for line in content["about"]]
