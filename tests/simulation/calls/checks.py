"""What callers of models that call others may see."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.allowed import QUIET_FAULTS, SILENT
from tests.simulation.ledger import Asked

if TYPE_CHECKING:
    from tests.simulation.world import World

OF_CALLED = {*SILENT, "model_not_ready", "model_failed"}


def allowed_of_calls(world: World, asked: Asked) -> set[str]:
    """Give the codes that a model that calls others allows, and faults on its way to them. Where
    nothing breaks there are none: however many runners wait for others, all get their answers.
    """
    schedule = world.schedule
    model, allowed = schedule.models[asked.ask.model], {"ok"}
    if schedule.is_in_circle(model):
        allowed = {"model_not_ready"}
    elif schedule.calls_into_circle(model):
        allowed = {"unavailable"}
    if not asked.is_probe and any(
        struck.fault.kind not in QUIET_FAULTS
        and struck.since <= asked.answered_at
        and asked.at <= struck.until
        for struck in world.faults
    ):
        allowed |= OF_CALLED
    return allowed
