"""``docs/benchmarks.md`` has two writers and a part by hand; each writer writes its own part.

Above the border writes ``make bench``, below it ``make bench-peers``; behind the second border
stands what was measured once, by ``bench.against`` and ``bench.costs``, and is kept as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from bench.processes import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
BORDER = "<!-- From here on, `make bench-peers` writes. -->"
HAND_BORDER = "<!-- From here on, by hand. -->"


class _Parts(NamedTuple):
    own: str
    peers: str
    by_hand: str


def write_own_part(path: Path, text: str) -> None:
    """Write ``text`` above the border, and leave what is below it."""
    _write(path, _read(path)._replace(own=text))


def write_peers_part(path: Path, text: str) -> None:
    """Write ``text`` between the borders, and leave the rest."""
    _write(path, _read(path)._replace(peers=text))


def _read(path: Path) -> _Parts:
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    written, _, by_hand = text.partition(HAND_BORDER)
    own, _, peers = written.partition(BORDER)
    return _Parts(own, peers, by_hand)


def _write(path: Path, parts: _Parts) -> None:
    text = parts.own.strip() + "\n"
    for border, part in ((BORDER, parts.peers), (HAND_BORDER, parts.by_hand)):
        if part.strip():
            text += f"\n{border}\n\n{part.strip()}\n"
    path.write_text(text.lstrip(), encoding="utf-8")
