"""What makes the calls of simulated models; and a runner that answers one batch at a time and waits
for another model meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from modelyard.calling.caller import Caller
from modelyard.core.called import CallFailed
from modelyard.core.errors import DeadlineExceeded, RequestError, Unavailable
from modelyard.core.manifest import Manifest
from modelyard.core.messages import Reply
from tests.simulation.calls.http import SimulatedHttp
from tests.simulation.loop import Process
from tests.simulation.runners import SimulatedRunner
from tests.simulation.schedule import Instance, Order

if TYPE_CHECKING:
    from tests.simulation.launcher import Launcher
    from tests.simulation.world import World


class Calls:
    """The calls of one runner.

    Args:
        world: Where the other models are.
        manifest: Says which it may call.
        process: The runner's.
    """

    def __init__(self, world: World, manifest: Manifest, process: Process) -> None:
        self._world = world
        models = manifest.calls.models
        self.caller = Caller(
            manifest.name,
            models,
            url="http://gateway",
            key="",
            timeout_s=manifest.limits.timeout_s,
        )
        self.http = SimulatedHttp(world, process)
        self.caller._awaited = self.http  # type: ignore[assignment]
        self._models = [m for m in world.schedule.models if m.name in models]

    async def ask(self, nonces: Sequence[int]) -> None:
        """Ask each of the models for all nonces, and see that the answers are right.

        Raises:
            CallFailed: One has not answered.
        """
        for model in self._models:
            rows: list[Any] = [(nonce, "", 0.0) for nonce in nonces]
            if model.kind:
                rows = [Order(nonce, "", 0.0, 0, 0, 0.0) for nonce in nonces]
            given = await self.caller.acall(model.name, rows, version=None, timeout_s=None)
            right = [model.answer(nonce) for nonce in nonces]
            if list(given) != right:
                self._world.checks.problem(f"a call of {model.name} gave {given}, not {right}")


class CallingRunner(SimulatedRunner):
    """One; see ``SimulatedRunner``."""

    def __init__(
        self,
        launcher: Launcher,
        manifest: Manifest,
        *,
        on_reply: Callable[[Reply], None],
        on_closed: Callable[[], None],
    ) -> None:
        super().__init__(launcher, manifest, on_reply=on_reply, on_closed=on_closed)
        self._process = Process(f"runner of {launcher.life}", launcher.loop)
        self._process.clock = launcher.clock
        launcher.rig.host(self._process)
        self._calls = Calls(launcher.rig.world, manifest, self._process)

    def orphaned(self) -> None:
        """See ``SimulatedRunner``."""
        super().orphaned()
        self._process.kill()
        self._calls.http.vanish()

    def _step(self) -> None:
        """Pass over what is late, of a batch that has failed and whose requests run apart."""
        while self._batch is not None and self._sizes and self._steps:
            late = self._steps[0]
            if any(self._batch.origins[p].deadline > self._launcher.clock() for p in late):
                break
            self._steps.popleft()
            for position in late:
                self._outcomes[position] = DeadlineExceeded("it is late by now").to_failure()
        super()._step()

    def _work(self, instances: list[Instance], took_s: float) -> None:
        self._process.spawn(self._call_and_work(instances, took_s))

    async def _call_and_work(self, instances: list[Instance], took_s: float) -> None:
        assert self._batch is not None
        positions = self._steps[0]
        self._calls.caller.asked_by([self._batch.origins[p] for p in positions])
        try:
            await self._calls.ask([nonce for nonce, _, _ in instances])
        except CallFailed as error:
            self._failed(positions, error.outcome())
            return
        super()._work(instances, took_s)

    def _failed(self, positions: list[int], error: RequestError) -> None:
        """Fail the requests of a call, or run each by itself, as ``runner/run.py`` does."""
        self._steps.popleft()
        if len(positions) > 1 and not isinstance(error, Unavailable):
            self._steps.extendleft([p] for p in reversed(positions))
        else:
            for position in positions:
                self._outcomes[position] = error.to_failure()
        self._step()

    def _die(self, code: int) -> None:
        super()._die(code)
        self._process.kill()
        self._calls.http.vanish()
