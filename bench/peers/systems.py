"""Who is compared, in the order of the report."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable
from pathlib import Path

from bench.peers.modelyard import HITS, MISSES, OFF, REDIS_HITS, Cluster, Embedded
from bench.peers.system import Peer, System
from bench.peers.yardstick import Echo
from bench.processes import ROOT

FOLDERS = ("mosec", "triton", "miraserver", "kserve", "mlserver", "litserve", "bentoml", "ray")


def all_systems() -> list[System]:
    """Give the yardstick, Modelyard in all its shapes, then the peers."""
    ours: list[System] = [Echo(), Embedded(OFF), Embedded(MISSES), Embedded(HITS)]
    ours += [Cluster(OFF), Cluster(MISSES), Cluster(HITS), Cluster(REDIS_HITS)]
    theirs: list[System] = []
    for folder in FOLDERS:
        if Path(__file__).with_name(folder).joinpath("peer.py").exists():
            theirs += importlib.import_module(f"bench.peers.{folder}.peer").PEERS
    return ours + theirs


def versions_of(systems: Iterable[System]) -> str:
    """Give what the peers' environments are pinned to."""
    texts = []
    for home in dict.fromkeys(one.folder.name for one in systems if isinstance(one, Peer)):
        pins = (ROOT / "requirements" / "bench" / f"{home}.txt").read_text(encoding="utf-8")
        found = re.search(rf"^([\w-]*{home})(\[\w+\])?==([^\s;]+)", pins, re.MULTILINE)
        texts.append(f"{found[1]} {found[3]}" if found else home)
    return ", ".join(texts)


def choose(names: Iterable[str]) -> list[System]:
    """Give the systems with these names; a name also stands for its variants: ``mlserver``.

    Raises:
        ValueError: No system is called so.
    """
    chosen = []
    for name in names:
        found = [s for s in all_systems() if s.name == name or s.name.startswith(f"{name}-")]
        if not found:
            raise ValueError(f"no system is called {name!r}")
        chosen += [system for system in found if system not in chosen]
    return chosen
