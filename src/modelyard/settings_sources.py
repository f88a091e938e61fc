"""Where settings come from: flags, the environment, a folder of secrets, a TOML file."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

PREFIX = "MODELYARD_"
FILE_VARIABLE = "MODELYARD_CONFIG"
SECRETS_VARIABLE = "MODELYARD_SECRETS"


class SettingsError(Exception):
    """A setting that cannot be used; the text names it and where it came from."""


def gather(
    flags: Mapping[str, Any], environment: Mapping[str, str], known: set[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what was set, and by what.

    Args:
        flags: What the command line says; None stands for not given.
        environment: Variables.
        known: The names of all settings.

    Raises:
        SettingsError: A file cannot be read, or has a name that is none.
    """
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    path = flags.get("config") or environment.get(FILE_VARIABLE)
    if path:
        values |= _read_file(Path(path), known)
        origin |= dict.fromkeys(values, str(path))
    if folder := environment.get(SECRETS_VARIABLE):
        secrets = _read_secrets(Path(folder), known)
        values |= secrets
        origin |= {name: f"{folder}/{name}" for name in secrets}
    for name in known:
        if (value := environment.get(PREFIX + name.upper())) is not None:
            values[name], origin[name] = value, PREFIX + name.upper()
        if (flag := flags.get(name)) is not None:
            values[name], origin[name] = flag, "--" + name.replace("_", "-")
    return values, origin


def suggest(name: str, known: Collection[str], *, prefix: str = "") -> str:
    """Return what to say of a name that is none of ``known``."""
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f"did you mean {prefix}{near[0]}?" if near else "`modelyard config` lists all settings"


def _read_file(path: Path, known: set[str]) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: {error}") from error
    if unknown := sorted(set(values) - known):
        hint = suggest(unknown[0], known)
        raise SettingsError(f"{path}: no setting is called {unknown[0]}; {hint}")
    return values


def _read_secrets(folder: Path, known: set[str]) -> dict[str, str]:
    """Return what the files say that are called like a setting; others are none of ours."""
    try:
        present = {path.name for path in folder.iterdir()} & known
        return {name: (folder / name).read_text(encoding="utf-8").rstrip("\n") for name in present}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{folder}: {error}") from error


def parts_of(text: str) -> list[str]:
    """Return what commas separate."""
    return [part for piece in text.split(",") if (part := piece.strip())]


def state_of_user() -> Path:
    """Return the folder of this user for what must last."""
    named = Path(os.environ.get("XDG_STATE_HOME", ""))
    return named if named.is_absolute() else Path.home() / ".local" / "state"


def with_user(urls: str, username: str, password: str) -> str:
    """Return each of ``urls`` (they are separated by commas), with the user where it names none."""
    if not urls or not (username or password):
        return urls
    user = f"{quote(username, safe='')}:{quote(password, safe='')}@"
    return ",".join(
        url if "@" in urlsplit(url).netloc else url.strip().replace("://", f"://{user}", 1)
        for url in urls.split(",")
    )
