"""``config``, ``doctor`` and ``completion``: commands about this installation."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from modelyard import __version__
from modelyard.cli.mistakes import warn
from modelyard.settings import PREFIX, SettingsError, load_settings
from modelyard.settings_shown import explain_settings, ignored_variables
from modelyard.surroundings import read_surroundings

if TYPE_CHECKING:
    from modelyard.doctor.finding import Finding


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


def doctor(options: argparse.Namespace) -> int:
    """Examine this installation, and print what is found; returns the exit code."""
    from modelyard.display import say_findings

    logging.disable()  # what parts would log stands in the findings
    found = _examined(options)
    is_well = all(finding.state != "fail" for finding in found)
    if options.json:
        import msgspec

        findings = msgspec.to_builtins(found)
        print(json.dumps({"ok": is_well, "release": __version__, "findings": findings}, indent=2))
        return int(not is_well)
    say_findings(found)
    return int(not is_well)


def _examined(options: argparse.Namespace) -> list[Finding]:
    from modelyard.doctor.examine import examine
    from modelyard.doctor.finding import Case, Finding

    try:
        settings = load_settings(vars(options))
        origins = {one.name: one.origin for one in explain_settings(vars(options))}
    except SettingsError as error:
        do = "correct it: no server starts with it, and nothing else can be looked at"
        return [Finding("settings", "fail", str(error), do)]
    is_cluster = any(origins[name] != "default" for name in ("amqp_url", "amqp_username"))
    case = Case(
        settings=settings,
        role=options.role or ("gateway" if is_cluster else "serve"),
        origins=origins,
        secrets=read_surroundings().secrets,
        gateways=tuple(options.url),
    )
    return examine(case)


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
