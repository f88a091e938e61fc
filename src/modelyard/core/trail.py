"""The trail of a request that models pass on by calling each other, and circles of such calls.

A model waits while another one answers it. As long as no model waits for itself, over however many
others, some runner can always go on: those whose models call nobody. So calls may not go in a
circle. Where all models are known this is seen before one is asked (``find_circle``); wherever a
request comes by, it is seen by its trail (``trail_of``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from modelyard.core.errors import CallsTooDeep
from modelyard.core.objects import Errand

MOST_CALLS = 8
"""So many models may call each other in a row: A calls B, which calls C, are two calls."""

GATEWAY_URL, CALL_KEY = "MODELYARD_GATEWAY_URL", "MODELYARD_CALL_KEY"
"""The variables by which a runner is told where a gateway is, and the key to send there."""

CALLED_BY = "x-called-by"
LONGEST_TRACE = 256  # characters; W3C Trace Context, level 1, has 55


class Trail(msgspec.Struct, frozen=True, array_like=True):
    """The way of a request that is traced, is a job, or has come to a model that calls others.

    Attributes:
        chain: The names of the models that called each other, this one last, with commas; empty
            for a model that calls none.
        trace: The ``traceparent`` that it passes on; empty for none.
        since: If its spans are recorded, when the gateway got it, as Unix time; else 0.
        attempt: 2 if a worker that had it before is gone.
        errand: Of a job; None for all others.
    """

    chain: str
    trace: str = ""
    since: float = 0.0
    attempt: int = 1
    errand: Errand | None = None


def trail_of(name: str, *, chain: str, trace: str, since: float = 0.0) -> Trail:
    """Return the trail of a request that has come to the model ``name``, which calls others.

    Raises:
        CallsTooDeep: The model is in the chain already, or the chain is too long.
    """
    if not chain:
        return Trail(name, trace, since)
    models = chain.split(",")
    shown = " → ".join([*models, name])
    if name in models:
        raise CallsTooDeep(f"models call each other in a circle: {shown}")
    if len(models) >= MOST_CALLS:
        raise CallsTooDeep(f"more than {MOST_CALLS} models call each other in a row: {shown}")
    return Trail(f"{chain},{name}", trace, since)


def merge_chains(chains: Collection[str]) -> str:
    """Return the chain of a call for several requests: whoever is in one of theirs is in it."""
    first, *others = dict.fromkeys(chains)
    if not others:
        return first
    names = dict.fromkeys(name for chain in (first, *others) for name in chain.split(","))
    own = first.rpartition(",")[2]
    return ",".join([*(name for name in names if name != own), own])


def find_circle(start: str, calls: Mapping[str, Collection[str]]) -> list[str]:
    """Return a circle of calls through ``start``, which is at both of its ends; empty for none.

    ``calls``: the models that each one calls.
    """
    way_to: dict[str, list[str]] = {start: [start]}
    left = [start]
    while left:
        name = left.pop(0)
        for called in calls.get(name, ()):
            if called == start:
                return [*way_to[name], start]
            if called not in way_to:
                way_to[called] = [*way_to[name], called]
                left.append(called)
    return []
