"""``config`` and ``completion``: commands about the command line itself."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from modelyard.cli.mistakes import warn
from modelyard.settings import PREFIX
from modelyard.settings_shown import explain_settings, ignored_variables


def config(options: argparse.Namespace) -> None:
    """Print every setting, its value, and where that came from."""
    for sentence in ignored_variables():
        warn(sentence)
    explained = explain_settings(vars(options))
    if options.json:
        fields = {e.name: {"value": e.value, "origin": e.origin} for e in explained}
        print(json.dumps(fields, indent=2))
        return
    rows = [("SETTING", "VALUE", "FROM"), *((e.name, _shown(e.value), e.origin) for e in explained)]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, value, origin in rows:
        print(f"{name:{widths[0]}}  {value:{widths[1]}}  {origin}")
    print(f"Each is also a variable, as {PREFIX}PORT, and a key of the file that --config names.")


def completion(options: argparse.Namespace) -> None:
    """Print a script that completes commands and options in a shell."""
    import shtab

    from modelyard.cli.parser import make_parser

    parser = make_parser()
    _complete_paths(parser, folders=shtab.DIRECTORY, files=shtab.FILE)
    print(shtab.complete(parser, shell=options.shell))


def _complete_paths(
    parser: argparse.ArgumentParser, *, folders: Mapping[str, object], files: Mapping[str, object]
) -> None:
    """Mark the arguments that are paths, for shtab."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _complete_paths(command, folders=folders, files=files)
        elif action.metavar in ("FILE", "PATH"):
            action.complete = files  # type: ignore[attr-defined]
        elif action.type is Path:
            action.complete = folders  # type: ignore[attr-defined]


def _shown(value: object) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value) or '""'
