"""A runner that has several batches and streams under way: the real loop of
``runner/concurrent/serving.py`` and all below it, with a model that does as it is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelyard.core.manifest import Manifest
from modelyard.core.messages import (
    FRAME_HEADER_BYTES,
    Begin,
    Done,
    Pieces,
    Reply,
    ToRunner,
    encode_frame,
    to_pool,
)
from modelyard.runner.concurrent.host import ConcurrentModel
from modelyard.runner.concurrent.serving import Serving
from tests.simulation.calls.runner import Calls
from tests.simulation.loop import Process
from tests.simulation.runners import PIPE_S, SimulatedRunner
from tests.simulation.streams.models import contract_for, make

if TYPE_CHECKING:
    from tests.simulation.launcher import Launcher


class _Pipe(asyncio.Transport):
    """The runner's end of its channel."""

    def __init__(self, runner: ConcurrentRunner) -> None:
        super().__init__()
        self._runner = runner

    def write(self, data: Any) -> None:
        self._runner.wrote(bytes(data))

    def is_closing(self) -> bool:
        return self._runner.is_dead


class ConcurrentRunner(SimulatedRunner):
    """One; see ``SimulatedRunner``.

    Attributes:
        process: That in which it runs.
        serving: Its loop, once the model is loaded.
    """

    def __init__(
        self,
        launcher: Launcher,
        manifest: Manifest,
        *,
        on_reply: Callable[[Reply], None],
        on_closed: Callable[[], None],
    ) -> None:
        super().__init__(launcher, manifest, on_reply=on_reply, on_closed=on_closed)
        self.launcher = launcher
        self.rig = launcher.rig
        self.process = Process(f"runner of {launcher.life}", launcher.loop)
        self.process.clock = launcher.clock
        self.rig.host(self.process)
        self.calls: Calls | None = None
        if manifest.calls.models:
            self.calls = Calls(self.rig.world, manifest, self.process)
        self.serving: Serving | None = None
        self._given: dict[int, list[int]] = {}  # by number, the nonces of what it has
        self._hosted: ConcurrentModel

    # What the slot calls.

    def send(self, message: ToRunner) -> None:
        """See ``SimulatedRunner``."""
        if isinstance(message, Begin):
            self.launcher.on_handed(self, message.id)
            decode: Callable[..., Any] = contract_for(self.launcher.model.kind).decode
            forms = message.forms or ["json"] * len(message.inputs)
            given = zip(message.inputs, forms, strict=True)
            orders = [one for raw, form in given for one in decode(raw, form)]
            self._given[message.id] = [order.nonce for order in orders]
        frame = bytes(encode_frame(message))
        self._heard = max(self._heard, self._loop.time() + self.launcher.chance.uniform(*PIPE_S))
        self._loop.call_at(self._heard, self._hear, frame, context=self.process.context)

    # What happens to it.

    def orphaned(self) -> None:
        """See ``SimulatedRunner``."""
        super().orphaned()
        self._vanish()

    def end(self, code: int) -> None:
        """End by itself."""
        self._die(code)

    # Inside.

    def _loaded(self, is_bad: bool) -> None:
        if not (self.is_dead or is_bad):
            self.process.run(self._serve)
        super()._loaded(is_bad)

    def _serve(self) -> None:
        kind = self.launcher.model.kind
        self._hosted = ConcurrentModel(
            model=make(kind, self),
            contract=contract_for(kind),
            manifest=self._manifest,
            folder=Path("/nowhere"),
            digest="",
            caller=None if self.calls is None else self.calls.caller,
            clock=self.launcher.clock,
        )
        ended = self._loop.create_future()
        ended.add_done_callback(lambda _: self._loop.call_later(0.001, self._die, 0))
        self.serving = Serving(self._hosted, ended)
        self.serving.connection_made(_Pipe(self))

    def _hear(self, frame: bytes) -> None:
        if not self.is_dead:
            assert self.serving is not None
            self.serving.data_received(frame)

    def _had(self) -> list[int]:
        return [nonce for nonces in self._given.values() for nonce in nonces]

    def _die(self, code: int) -> None:
        super()._die(code)
        self._vanish()

    def _vanish(self) -> None:
        self.process.kill()
        if self.calls is not None:
            self.calls.http.vanish()

    def wrote(self, data: bytes) -> None:
        """Carry to the pool what the loop writes."""
        self._arrive(self._receive, data)

    def _receive(self, frame: bytes) -> None:
        """Receive one or more frames, in the pool's process."""
        if not self.opened.done():
            super()._receive(frame)
            return
        while frame:
            end = FRAME_HEADER_BYTES + int.from_bytes(frame[:FRAME_HEADER_BYTES], "big")
            message = to_pool.decode(memoryview(frame)[FRAME_HEADER_BYTES:end])
            frame = frame[end:]
            ended = [message.id] if isinstance(message, Done) else []
            if isinstance(message, Pieces):
                ended = [part.id for part in message.parts if part.is_last]
            for number in ended:
                del self._given[number]
            assert isinstance(message, Done | Pieces)
            self._on_reply(message)

    def leaks(self) -> list[str]:
        """Say what it still holds, of a runner that has nothing to do."""
        if self.serving is None:
            return []
        gathered, source = self.serving._gathered, self._hosted.source
        held: dict[str, Any] = {
            "tasks": self.serving._tasks,
            "outlets": self.serving._outlets,
            "pieces": gathered._pieces,
            "ends": gathered._ended,
            "counts": gathered._sent,
        }
        held |= {name: vars(source)[name] for name in _HELD if name in vars(source)}
        return [f"{len(some)} {name}" for name, some in held.items() if some]


_HELD = ("_running", "_contexts", "_tasks", "_open")
