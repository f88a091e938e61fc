"""A mutant replaces a piece of a function's source.

A piece that is not there any more fails loudly: the function has changed, and so must the mutant.
"""

from __future__ import annotations
import __future__

import contextlib
import importlib
import inspect
import textwrap
from collections.abc import Iterator, Sequence
from types import FunctionType
from typing import Any, NamedTuple

from tests.simulation.schedule import FaultKind


class Edit(NamedTuple):
    """In ``place`` (``module:Class.function``) stands ``new`` instead of ``old``."""

    place: str
    old: str
    new: str


class Mutant(NamedTuple):
    """A defect.

    ``seed`` is the first that finds it. ``needs``: it shows only under one of these faults, so
    seeds without any are passed over.
    """

    name: str
    edits: Sequence[Edit]
    seed: int = 0
    needs: Sequence[FaultKind] = ()


def one(
    name: str,
    place: str,
    old: str,
    new: str,
    *,
    seed: int = 0,
    needs: Sequence[FaultKind] = (),
) -> Mutant:
    """Give a mutant of one edit; ``place`` is within ``modelyard``."""
    return Mutant(name, [Edit(f"modelyard.{place}", old, new)], seed, needs)


def _find(place: str) -> tuple[Any, str, FunctionType, Any]:
    """Give where a function is, its name, itself, and its module."""
    module_name, _, path = place.partition(":")
    module = importlib.import_module(module_name)
    owner: Any = module
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    function = vars(owner)[name]
    assert isinstance(function, FunctionType), f"{place} is no function"
    return owner, name, function, module


@contextlib.contextmanager
def applied(mutant: Mutant) -> Iterator[None]:
    """Have the defect as long as the ``with`` block."""
    sources: dict[str, str] = {}
    for edit in mutant.edits:
        *_, function, _ = _find(edit.place)
        source = sources.get(edit.place) or textwrap.dedent(inspect.getsource(function))
        assert source.count(edit.old) == 1, f"{edit.place} does not hold once: {edit.old}"
        sources[edit.place] = source.replace(edit.old, edit.new)
    with contextlib.ExitStack() as stack:
        for place, source in sources.items():
            owner, name, function, module = _find(place)
            flags = __future__.annotations.compiler_flag
            made: dict[str, Any] = {}
            code = compile(source, f"<mutant of {place}>", "exec", flags=flags)
            exec(code, vars(module), made)
            setattr(owner, name, made[name])
            stack.callback(setattr, owner, name, function)
        yield
