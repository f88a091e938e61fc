"""What this process has beside its settings: for its models, and a key for its commands."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from modelyard.settings import API_KEY_VARIABLE, PREFIX, SECRETS_VARIABLE, setting_names

_API_KEY = "api_key"  # a file in the folder of secrets


class Surroundings(NamedTuple):
    """What this process has for its models, beside the settings.

    Attributes:
        variables: Its environment, but for ``MODELYARD_…``: they may hold passwords.
        secrets: The folder of secrets; None for none.
        reserved: Files in there that are called like a setting: they are the server's own.
        caches: The user's folder for caches; None if there is no such user.
    """

    variables: dict[str, str]
    secrets: Path | None
    reserved: frozenset[str]
    caches: Path | None


def read_surroundings(environment: Mapping[str, str] | None = None) -> Surroundings:
    """Return what there is for models; ``environment`` is ``os.environ`` unless given."""
    environment = os.environ if environment is None else environment
    folder = environment.get(SECRETS_VARIABLE)
    return Surroundings(
        variables={
            name: value for name, value in environment.items() if not name.startswith(PREFIX)
        },
        secrets=Path(folder) if folder else None,
        reserved=frozenset(setting_names()) | {_API_KEY},
        caches=_caches_of_user(environment),
    )


def read_api_key(environment: Mapping[str, str] | None = None) -> str:
    """Return the key that commands and workers send to a gateway, from its variable or the folder
    of secrets. It is no setting: a gateway has none.
    """
    environment = os.environ if environment is None else environment
    key = environment.get(API_KEY_VARIABLE, "")
    if not key and (folder := environment.get(SECRETS_VARIABLE)):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            key = (Path(folder) / _API_KEY).read_text(encoding="utf-8")
    return key.strip()


class MlflowAccess(NamedTuple):
    """Where MLflow is, and what it wants, as its own variables say; empty for nothing."""

    url: str
    token: str
    username: str
    password: str


def read_mlflow(environment: Mapping[str, str] | None = None) -> MlflowAccess:
    """Return what MLflow's own variables say; ``environment`` is ``os.environ`` unless given."""
    environment = os.environ if environment is None else environment
    names = ("URI", "TOKEN", "USERNAME", "PASSWORD")
    return MlflowAccess(*(environment.get(f"MLFLOW_TRACKING_{name}", "") for name in names))


def _caches_of_user(environment: Mapping[str, str]) -> Path | None:
    if (named := Path(environment.get("XDG_CACHE_HOME", ""))).is_absolute():
        return named
    try:
        home = Path.home()
    except RuntimeError:
        return None
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache")
