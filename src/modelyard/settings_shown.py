"""How settings are shown: each with its value and its origin, passwords masked; and variables that
look like settings and are none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from modelyard.settings import API_KEY_VARIABLE, convert, setting_names
from modelyard.settings_sources import FILE_VARIABLE, PREFIX, SECRETS_VARIABLE, gather, suggest

MASK = "********"
_PASSWORD_IN_URL = re.compile(r"(://[^:@,/]*:)[^@,]*(?=@)|([?&]password=)[^&,]*")


class Explained(NamedTuple):
    """One setting as it applies; ``origin`` is the flag, variable or file that gave its value."""

    name: str
    value: Any
    origin: str


def explain_settings(
    flags: Mapping[str, Any], *, environment: Mapping[str, str] | None = None
) -> list[Explained]:
    """Return every setting with its value, secrets masked, and where the value came from.

    Raises:
        SettingsError: A value or a name is wrong.
    """
    environment = os.environ if environment is None else environment
    values, origin = gather(flags, environment, setting_names())
    settings = msgspec.structs.asdict(convert(values, origin))
    return [
        Explained(name, _mask(name, value), origin.get(name, "default"))
        for name, value in settings.items()
    ]


def ignored_variables(environment: Mapping[str, str] | None = None) -> list[str]:
    """Return a sentence for each variable that looks like a setting and is none."""
    environment = os.environ if environment is None else environment
    variables = {PREFIX + name.upper() for name in setting_names()} | {
        *(FILE_VARIABLE, SECRETS_VARIABLE, API_KEY_VARIABLE)
    }
    known = {variable.removeprefix(PREFIX) for variable in variables}
    return [
        f"{variable} is not a setting and is ignored; {suggest(name, known, prefix=PREFIX)}"
        for variable in sorted(environment)
        if variable.startswith(PREFIX) and (name := variable.removeprefix(PREFIX)) not in known
    ]


def is_secret(name: str) -> bool:
    """Return whether nobody is to see the value of this setting."""
    return name.endswith(("_password", "_secrets", "call_key"))


def _mask(name: str, value: Any) -> Any:
    if is_secret(name) and value:
        return MASK
    if name.endswith("_url") and isinstance(value, str):
        return _PASSWORD_IN_URL.sub(lambda found: (found[1] or found[2]) + MASK, value)
    return value
