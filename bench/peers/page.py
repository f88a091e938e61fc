"""The tables: one for each case of a scenario, the systems beside each other."""

from __future__ import annotations

from bench.peers.figures import MEASURES, Book, Figure


def make_tables(book: Book) -> str:
    """Give all tables, as Markdown."""
    cases: dict[tuple[str, str], list[Figure]] = {}
    for figure in book:
        cases.setdefault((figure.scenario, figure.case), []).append(figure)
    parts = [
        f"### {scenario.capitalize()}: {case}\n\n{_table(figures)}"
        for (scenario, case), figures in cases.items()
    ]
    if book.notes:
        lines = [f"- {scenario}: {system}: {text}" for scenario, system, text in book.notes]
        parts.append("### Not measured\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _table(figures: list[Figure]) -> str:
    measures = list(dict.fromkeys(figure.measure for figure in figures))
    cells: dict[str, dict[str, str]] = {}
    for figure in figures:
        cells.setdefault(figure.system, {})[figure.measure] = figure.text
    lines = [["system", *(MEASURES[measure].title for measure in measures)]]
    lines += [[system, *(row.get(m, "") for m in measures)] for system, row in cells.items()]
    return align(lines)


def align(lines: list[list[str]]) -> str:
    """Give lines, the first of them headings, as a Markdown table that reads well as it is."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    rows = [lines[0], ["-" * width for width in widths], *lines[1:]]
    return "\n".join(
        "| " + " | ".join(f"{text:{w}}" for text, w in zip(row, widths, strict=True)) + " |"
        for row in rows
    )
