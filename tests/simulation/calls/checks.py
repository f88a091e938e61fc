"""What callers of models that call others may see."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.allowed import QUIET_FAULTS, SILENT
from tests.simulation.ledger import Asked

if TYPE_CHECKING:
    from tests.simulation.world import World

OF_CALLED = {*SILENT, "model_not_ready", "model_failed"}


def allowed_of_calls(world: World, asked: Asked) -> set[str]:
    """Give the codes that a fault of another model, or on the way to it, allows. Where nothing
    breaks there are none: however many runners wait for others, all get their answers.
    """
    if any(
        struck.fault.kind not in QUIET_FAULTS
        and struck.since <= asked.answered_at
        and asked.at <= struck.until
        for struck in world.faults
    ):
        return OF_CALLED
    return set()
