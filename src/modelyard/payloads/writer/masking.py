"""Drops and masks fields of a decoded request or answer, by rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from modelyard.payloads.config import Rules

MASK = "***"

Steps = tuple[str, ...]

_GONE = object()


class Masking:
    """The rules of one model for one part of its records.

    A path goes through every instance: ``customer.name`` is that field of each. In a list a number
    is a place, and anything else goes through all of its items.

    Args:
        rules: The rules.
        part: ``request`` or ``answer``.
    """

    def __init__(self, rules: Rules, part: str) -> None:
        self._only = [_steps(path) for path in rules.only if _is_of(path, part)]
        self._drop = [_steps(path) for path in rules.drop if _is_of(path, part)]
        self._mask = [_steps(path) for path in rules.mask if _is_of(path, part)]
        self._nothing = bool(rules.only) and not self._only

    @property
    def drops_all(self) -> bool:
        """Whether nothing of it is kept, so that it need not even be decoded."""
        return self._nothing or () in self._drop

    def apply(self, value: Any, *, name: str = "") -> Any:
        """Return what may be kept of the value; None for nothing. ``name``: of the only tensor that
        its rows are of: rules may begin with that name, or leave it out.
        """
        if self.drops_all or value is None:
            return None
        rules = (*self._only, *self._drop, *self._mask)
        if name and isinstance(value, list) and any(steps[0] == name for steps in rules if steps):
            value = [{name: row} for row in value]
        if self._only:
            value = _only(value, self._only, is_outer=True)
        for steps in self._drop:
            value = _change(value, steps, lambda _: _GONE, is_outer=True)
        for steps in self._mask:
            value = _change(value, steps, lambda _: MASK, is_outer=True)
        return value


def _is_of(path: str, part: str) -> bool:
    return path.partition(".")[0] == part


def _steps(path: str) -> Steps:
    return tuple(path.split(".")[1:])


def _change(value: Any, steps: Steps, change: Callable[[Any], Any], *, is_outer: bool) -> Any:
    """Return the value with what ``steps`` lead to changed. The outermost list is that of the
    instances, in which a number is no place.
    """
    if not steps:
        return change(value)
    if isinstance(value, list) and (is_outer or not steps[0].isdigit()):
        rest = steps[1:] if steps[0] == "*" and not is_outer else steps
        changed = [_change(item, rest, change, is_outer=False) for item in value]
        return [None if item is _GONE else item for item in changed]
    if isinstance(value, list):
        place = int(steps[0])
        if place < len(value):
            value = value[:]
            item = _change(value[place], steps[1:], change, is_outer=False)
            value[place] = None if item is _GONE else item  # the others keep their places
        return value
    if isinstance(value, dict):
        result = dict(value)
        for key in value if steps[0] == "*" else (steps[0],):
            if key in value:
                item = _change(value[key], steps[1:], change, is_outer=False)
                if item is _GONE:
                    del result[key]
                else:
                    result[key] = item
        return result
    return value


def _only(value: Any, paths: Sequence[Steps], *, is_outer: bool) -> Any:
    """Return what the paths name of a value."""
    if () in paths:
        return value
    if isinstance(value, list):
        if is_outer:
            return [_only(item, paths, is_outer=False) for item in value]
        kept = [
            _only(item, rest, is_outer=False) if (rest := _rest(paths, str(place))) else None
            for place, item in enumerate(value)
        ]
        return (
            kept
            if any(path[0].isdigit() or path[0] == "*" for path in paths)
            else [_only(item, paths, is_outer=False) for item in value]
        )
    if isinstance(value, dict):
        return {
            key: _only(item, rest, is_outer=False)
            for key, item in value.items()
            if (rest := _rest(paths, key))
        }
    return None  # a path leads deeper, and here is nothing


def _rest(paths: Sequence[Steps], step: str) -> list[Steps]:
    return [path[1:] for path in paths if path[0] in (step, "*")]
