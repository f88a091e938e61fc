"""docs/commands.md: every command of the command line, from its parser.

Not from ``--help`` as it is printed: each release of Python lays that out in its own way.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from modelyard.cli.parser import make_parser

_PAGE = """\
# Commands

<!-- Written by `make reference` from modelyard.cli. -->

What `modelyard COMMAND --help` says, of all commands. `modelyard completion SHELL` completes them. Settings that are not options are
variables, or keys of a file: [settings](settings.md). A mistake ends with one line and exit code 2.

{sections}"""
_MARKUP = {"|": "\\|", "<": "&lt;", "*": "\\*", "_": "\\_", "[": "\\["}


def commands_page() -> str:
    """Give docs/commands.md."""
    return _PAGE.format(
        sections="\n".join(_sections(make_parser(), "modelyard", help_="", depth=2))
    )


def _sections(
    parser: argparse.ArgumentParser, name: str, *, help_: str, depth: int
) -> Iterator[str]:
    nested = None
    rows = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            nested = action
        elif not isinstance(action, argparse._HelpAction | argparse._VersionAction):
            rows.append(f"| {_name_of(action)} | {_plain((action.help or '') % vars(action))} |")
    if depth > 2:
        said = parser.description or f"{help_[:1].upper()}{help_[1:]}."
        parts = [f"{'#' * min(depth - 1, 3)} {name}\n\n{_plain(said)}\n"]
        if rows:
            parts.append("| argument or option | meaning |\n|---|---|\n" + "\n".join(rows) + "\n")
        if parser.epilog:
            parts.append(f"```text\n{parser.epilog.strip()}\n```\n")
        yield "\n".join(parts)
    if nested is not None:
        helps = {choice.dest: choice.help or "" for choice in nested._choices_actions}
        for command, inner in nested.choices.items():
            yield from _sections(inner, f"{name} {command}", help_=helps[command], depth=depth + 1)


def _name_of(action: argparse.Action) -> str:
    value = action.metavar if isinstance(action.metavar, str) else None
    if value is None and action.choices is not None:
        value = f"{{{','.join(map(str, action.choices))}}}"
    if not action.option_strings:
        return f"`{value or action.dest.upper()}`"
    takes = "" if action.nargs == 0 else f" {value or action.dest.upper()}"
    return ", ".join(f"`{option}{takes}`" for option in action.option_strings)


def _plain(text: str) -> str:
    """Give a text as Markdown that shows it as it is; what is in backticks stays."""
    parts = " ".join(text.replace("%%", "%").split()).split("`")
    return "`".join(
        part if number % 2 else "".join(_MARKUP.get(letter, letter) for letter in part)
        for number, part in enumerate(parts)
    )
