"""Scopes: what a caller may do.

    predict:PATTERN    ask these models, and see what they take
    read               see all models, their state and metrics, and the documentation
    release:PATTERN    load and unload these models, push versions of them, set their aliases
    admin              everything

A pattern is a model's name, in which ``*`` stands for any letters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from modelyard.core.names import is_name

READ, ADMIN = "read", "admin"
WITH_PATTERN = ("predict", "release")
_SCOPE = re.compile(rf"({READ}|{ADMIN}|({'|'.join(WITH_PATTERN)}):[a-z0-9*][a-z0-9*._-]*)")


class ScopeError(ValueError):
    """A scope is none; the text says what one is."""


def check_scope(scope: str) -> str:
    """Return ``scope``, if it is one.

    Raises:
        ScopeError: It is not.
    """
    if _SCOPE.fullmatch(scope) is None:
        raise ScopeError(
            f"{scope!r} is not a valid scope; those are {READ}, {ADMIN}, and predict:MODEL and "
            "release:MODEL, in which * stands for any letters"
        )
    return scope


def scopes_in(words: Iterable[object], prefix: str) -> set[str]:
    """Return the scopes among words, which begin with ``prefix``; others may be there as well."""
    found = set()
    for word in words:
        if not isinstance(word, str) or not word.startswith(prefix):
            continue
        try:
            found.add(check_scope(word.removeprefix(prefix)))
        except ScopeError:
            continue
    return found


class Scopes:
    """The scopes of one caller, as questions. What is no model's name matches no pattern."""

    def __init__(self, scopes: Iterable[str]) -> None:
        self.names = tuple(sorted(scopes))
        self.is_admin = ADMIN in self.names
        self.may_read = self.is_admin or READ in self.names
        pairs = [scope.partition(":") for scope in self.names]
        self.may_release_some = self.is_admin or any(kind == "release" for kind, _, _ in pairs)
        self._patterns = {
            kind: compile_patterns(pattern for found, _, pattern in pairs if found == kind)
            for kind in WITH_PATTERN
        }

    def may_predict(self, model: str) -> bool:
        """Return whether the model may be asked."""
        return self.is_admin or self._matches("predict", model)

    def may_release(self, model: str) -> bool:
        """Return whether the model may be loaded and unloaded."""
        return self.is_admin or self._matches("release", model)

    def _matches(self, kind: str, model: str) -> bool:
        # Names are short: on long ones patterns with several stars would take seconds.
        return is_name(model) and self._patterns[kind].fullmatch(model) is not None

    def may_see(self, model: str) -> bool:
        """Return whether the model may be known to be there."""
        return self.may_read or self.may_predict(model) or self.may_release(model)


def compile_patterns(patterns: Iterable[str]) -> re.Pattern[str]:
    """Return one expression for any of the patterns; for none, one that never matches."""
    parts = [".*".join(map(re.escape, pattern.split("*"))) for pattern in patterns]
    return re.compile("|".join(parts) if parts else r"(?!)", re.DOTALL)
