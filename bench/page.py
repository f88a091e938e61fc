"""``docs/benchmarks.md`` has two writers; each writes its own part.

Above the border writes ``make bench``, below it ``make bench-peers``.
"""

from __future__ import annotations

from pathlib import Path

from bench.processes import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
BORDER = "<!-- From here on, `make bench-peers` writes. -->"


def write_own_part(path: Path, text: str) -> None:
    """Write ``text`` above the border, and leave what is below it."""
    _, below = _parts(path)
    _write(path, text, below)


def write_peers_part(path: Path, text: str) -> None:
    """Write ``text`` below the border, and leave what is above it."""
    above, _ = _parts(path)
    _write(path, above, text)


def _parts(path: Path) -> tuple[str, str]:
    if not path.exists():
        return "", ""
    above, _, below = path.read_text(encoding="utf-8").partition(BORDER)
    return above, below


def _write(path: Path, above: str, below: str) -> None:
    text = above.strip() + "\n"
    if below.strip():
        text += f"\n{BORDER}\n\n{below.strip()}\n"
    path.write_text(text.lstrip(), encoding="utf-8")
