"""Options that several commands have."""

from __future__ import annotations

import argparse
from typing import TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_config(command: argparse.ArgumentParser) -> None:
    """Add the option that names a file of settings."""
    command.add_argument("--config", metavar="FILE", help="a TOML file of settings")


def add_store(command: argparse.ArgumentParser) -> None:
    """Add the options that say where the store is."""
    add_config(command)
    command.add_argument("--database-url", metavar="URL", help="sqlite:///… or postgresql://…")
