"""The targets by name, and their seeds."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

FOLDER = Path(__file__).parent
SEEDS = FOLDER / "seeds"

Run = Callable[[bytes], None]


def names() -> list[str]:
    """Return the names of all targets."""
    return sorted(path.stem for path in (FOLDER / "targets").glob("[a-z]*.py"))


def load(name: str) -> Run:
    """Return the function of a target."""
    run: Run = importlib.import_module(f"tests.fuzz.targets.{name}").run
    return run


def seeds(name: str) -> list[bytes]:
    """Return the seeds of a target."""
    return [path.read_bytes() for path in sorted((SEEDS / name).iterdir())]
