"""Starts runners, each with what its model needs: implements ``interfaces.Launch``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from modelyard.core.manifest import Manifest
from modelyard.core.messages import Reply, Said
from modelyard.equipment.equipper import Equipper
from modelyard.pool.output import Line
from modelyard.pool.runner_process import RunnerProcess


class Launcher:
    """Starts the runners of all pools of a process.

    Args:
        equipper: Provides the Python, variables, secrets and devices of each runner.
        shows_errors: Whether callers are told what a model's exceptions say.
    """

    def __init__(self, equipper: Equipper, *, shows_errors: bool) -> None:
        self._equipper = equipper
        self._shows_errors = shows_errors

    async def start(
        self,
        folder: Path,
        manifest: Manifest,
        *,
        on_reply: Callable[[Reply], None],
        on_closed: Callable[[], None],
        on_line: Callable[[Line], None],
        on_step: Callable[[str], None],
        on_said: Callable[[Said], None],
    ) -> RunnerProcess:
        """See ``interfaces.Launch``."""
        equipment = await self._equipper.equip(folder, manifest, on_step=on_step)
        try:
            return await RunnerProcess.start(
                folder,
                manifest,
                equipment=equipment,
                shows_errors=self._shows_errors,
                on_reply=on_reply,
                on_closed=on_closed,
                on_line=on_line,
                on_said=on_said,
            )
        except BaseException:
            equipment.give_back()
            raise
