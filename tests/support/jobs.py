"""Stores for servers that keep jobs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.support.server import MODELYARD


class Store:
    """A store of a test's own, with its schema; ``settings`` are those of its servers."""

    def __init__(self, folder: Path, *, database_url: str = "") -> None:
        self.settings = {"MODELYARD_STATE_FOLDER": str(folder)}
        if database_url:
            self.settings["MODELYARD_DATABASE_URL"] = database_url
        subprocess.run(
            [MODELYARD, "store", "upgrade"],
            env={**os.environ, **self.settings},
            check=True,
            capture_output=True,
        )
