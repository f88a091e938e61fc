"""Model folders for Modelyard: those in ``models/``, with the manifest that a scenario asks for."""

from __future__ import annotations

import shutil
from pathlib import Path

from bench.peers.told import Told

MODELS = Path(__file__).parent / "models"
MANIFEST = """
[batching]
max_batch_size = {batch_size}

[limits]
timeout_s = {timeout_s}
max_in_flight = {queue}

[scaling]
min_runners = {runners}
max_runners = {runners}
"""
SLEEPY = """\
scale_to_zero = true
idle_s = 5
"""


def write_folders(into: Path, told: Told) -> None:
    """Write a folder for each model into ``into``."""
    more = MANIFEST.format(
        batch_size=told.batch_size,
        timeout_s=told.timeout_s,
        queue=told.queue or 1000,
        runners=told.runners,
    )
    for model in told.models:
        folder = into / model
        kind = model.partition("-")[0]  # idle-7 is one of many of a kind
        shutil.copytree(MODELS / kind, folder, ignore=shutil.ignore_patterns("__pycache__"))
        manifest = folder / "model.toml"
        text = manifest.read_text(encoding="utf-8").replace(f'name = "{kind}"', f'name = "{model}"')
        sleepy = SLEEPY if kind == "idle" else ""  # what one does with many that are seldom asked
        manifest.write_text(text + more + sleepy, encoding="utf-8")
