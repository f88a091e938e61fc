"""Keys for servers under test, made by the command that a user would type."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests.support.preloaded import run


class Keys:
    """The keys in a store of a test's own; ``settings`` are those of its servers."""

    def __init__(self, folder: Path, *, database_url: str = "") -> None:
        self.settings = {"MODELYARD_AUTH": "keys", "MODELYARD_STATE_FOLDER": str(folder)}
        if database_url:
            self.settings["MODELYARD_DATABASE_URL"] = database_url

    def run(self, *arguments: str) -> str:
        """Run `modelyard …`, and return what it prints."""
        done = run(*arguments, env={**os.environ, **self.settings})
        assert done.returncode == 0, done.stderr
        return done.stdout

    def create(
        self, key_id: str, *scopes: str, owner: str = "team", more: tuple[str, ...] = ()
    ) -> str:
        """Make a key, and return it."""
        chosen = [part for scope in scopes for part in ("--scope", scope)]
        printed = self.run("keys", "create", "--id", key_id, "--owner", owner, *chosen, *more)
        found = re.search(r"mdy_\w{36}", printed)
        assert found, printed
        return found[0]
