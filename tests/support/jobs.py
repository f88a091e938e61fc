"""Stores for servers that keep jobs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import httpx

from tests.support.preloaded import run
from tests.support.server import wait_until


class Store:
    """A store of a test's own, with its schema; ``settings`` are those of its servers."""

    def __init__(self, folder: Path, *, database_url: str = "") -> None:
        self.settings = {"MODELYARD_STATE_FOLDER": str(folder)}
        if database_url:
            self.settings["MODELYARD_DATABASE_URL"] = database_url
        done = run("store", "upgrade", env={**os.environ, **self.settings})
        assert done.returncode == 0, done.stderr


def ended(http: httpx.Client, job: str) -> dict[str, Any]:
    """Wait for the end of the job at a path, and give it."""

    def look() -> Any:
        found = http.get(job, params={"wait": 10}).json()
        return found if found["finished"] else None

    found: dict[str, Any] = wait_until(look, what=f"the end of {job}")
    return found
