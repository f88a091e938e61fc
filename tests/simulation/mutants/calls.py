"""Mutants of models that call others."""

from __future__ import annotations

from tests.simulation.mutants.mutant import Mutant, one

CALLER = "calling.caller:Caller"

CALLS: tuple[Mutant, ...] = (
    one(
        "circles are not seen",
        "dispatch.catalog:Catalog._see_circles",
        'circle = " → ".join(find_circle(name, calls)) if calls[name] else ""',
        'circle = ""',
        seed=2,
    ),
    one(
        "a call does not know the deadline of its request",
        f"{CALLER}._ask",
        "own if origin is None or origin.deadline == math.inf else origin.deadline",
        "own",
        seed=48,
    ),
    one(
        "what it calls is a model's own failure",
        "core.called:CallFailed.outcome",
        "if self.is_late:",
        "if False:",
        seed=167,
    ),
)
