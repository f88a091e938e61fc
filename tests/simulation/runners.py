"""Simulated runners: a small double of ``runner/host.py`` and its process.

It takes frames and gives frames, as the real one does, but answers in virtual time. ``HostedModel``
itself is not used: it calls the model and returns, with no moment in between at which it could take
its time, crash or be killed.

Models of odd numbers ask whether what they run was cancelled, and then stop at once; others go on.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from modelyard.core.errors import (
    Cancelled,
    DeadlineExceeded,
    Failure,
    InvalidInput,
    ModelFailed,
)
from modelyard.core.manifest import Manifest
from modelyard.core.messages import (
    FRAME_HEADER_BYTES,
    Answers,
    Batch,
    Leave,
    LoadFailed,
    Ready,
    Reply,
    Stop,
    ToRunner,
    encode_batch,
    encode_frame,
    to_pool,
    to_runner,
)
from modelyard.pool.interfaces import CANCEL_GRACE_S
from tests.simulation.ledger import Death, Run
from tests.simulation.schedule import Instance

if TYPE_CHECKING:
    from tests.simulation.launcher import Launcher

PIPE_S = (0.00003, 0.0003)

_json = msgspec.json.Decoder(list[Instance])
_msgpack = msgspec.msgpack.Decoder(list[Instance])


class SimulatedRunner:
    """One; see ``pool.interfaces.Runner``."""

    def __init__(
        self,
        launcher: Launcher,
        manifest: Manifest,
        *,
        on_reply: Callable[[Reply], None],
        on_closed: Callable[[], None],
    ) -> None:
        self._launcher = launcher
        self._loop = launcher.loop
        self._manifest = manifest
        self._on_reply = on_reply
        self._on_closed = on_closed
        self.opened: asyncio.Future[Ready | LoadFailed] = self._loop.create_future()
        self._exited: asyncio.Future[int] = self._loop.create_future()
        self._arrived = 0.0
        self._heard = 0.0
        self._waiting: deque[Batch | Stop | Leave] = deque()
        self._left_at = math.inf  # since when what it runs is cancelled
        self._began = math.inf  # when it began what it runs
        self._working: asyncio.TimerHandle | None = None
        self.is_dead = self.is_ready = self.was_killed = self._was_unwanted = False
        self._batch: Batch | None = None
        self._instances: list[list[Instance] | None] = []
        self._outcomes: list[bytes | Failure] = []
        self._steps: deque[list[int]] = deque()
        self._model_s = 0.0
        self._sizes: list[int] = []
        trouble = launcher.trouble
        load_s = launcher.model.load_s * launcher.chance.uniform(0.5, 1.5)
        if trouble.load_hangs:
            return
        if trouble.load_crashes:
            self._loop.call_later(load_s, self._die, 1)
        else:
            is_bad = trouble.load_fails
            self._loop.call_later(load_s, self._loaded, is_bad)

    # What the slot calls.

    def send(self, message: ToRunner) -> None:
        """Hand over a message."""
        if isinstance(message, Batch):
            self._launcher.on_handed(self, None)
            frame = b"".join(encode_batch(message))
        else:
            frame = bytes(encode_frame(message))
            if isinstance(message, Leave):
                self._left_at = self._loop.time()
        self._heard = max(self._heard, self._loop.time() + self._launcher.chance.uniform(*PIPE_S))
        self._loop.call_at(self._heard, self._hear, frame)

    def kill(self) -> None:
        """End it now."""
        self.was_killed = True
        now = self._loop.time()
        is_told = now - self._left_at > CANCEL_GRACE_S - 0.001
        self._was_unwanted = is_told or (bool(self._waiting) and self._runs_cancelled_jobs(now))
        self._loop.call_later(0.0002, self._die, -9)

    async def wait(self) -> int:
        """Wait until it is gone."""
        code = await asyncio.shield(self._exited)
        if not self.opened.done():
            self.opened.cancel()
        return code

    def read_output(self) -> None:
        """It prints nothing."""

    def last_lines(self) -> list[str]:
        """It prints nothing."""
        return []

    # What happens to it.

    def is_running(self) -> list[int]:
        """Give the nonces that it runs now."""
        positions = self._steps[0] if self._steps else []
        return [one[0] for p in positions for one in self._instances[p] or []]

    def killed_from_outside(self) -> None:
        """Be killed by an operator."""
        self._die(-9)

    def orphaned(self) -> None:
        """End with the process that started it."""
        self.is_dead = True

    # Inside.

    def _loaded(self, is_bad: bool) -> None:
        if self.is_dead:
            return
        if is_bad:
            self._tell(LoadFailed("FileNotFoundError: weights"))
            self._loop.call_later(0.001, self._die, 1)
            return
        self.is_ready = True
        digest = f"sha256:{self._manifest.name}:{self._manifest.version}"
        model = self._launcher.model
        piece = b"{}" if model.kind else b""
        warm_up_s = model.base_ms / 1000
        self._tell(Ready(digest, b"{}", b"{}", b"null", warm_up_s, piece_schema=piece))
        self._next()

    def _hear(self, frame: bytes) -> None:
        if self.is_dead:
            return
        message = to_runner.decode(memoryview(frame)[FRAME_HEADER_BYTES:])
        self._waiting.append(message)
        self._look_whether_cancelled()
        self._next()

    def _look_whether_cancelled(self) -> None:
        """Stop what runs if it was cancelled, and the model is one that asks."""
        is_cancelled = bool(self._waiting) and isinstance(self._waiting[0], Leave)
        asks = self._launcher.model.number % 2 == 1
        if self._working is None or not (is_cancelled and asks):
            return
        self._working.cancel()
        self._working = None
        for positions in self._steps:
            for position in positions:
                self._outcomes[position] = Cancelled().to_failure()
        self._steps.clear()
        self._step()

    def _next(self) -> None:
        """Begin with the next message."""
        while self._batch is None and self._waiting and self.is_ready:
            message = self._waiting.popleft()
            if isinstance(message, Leave):  # what it is about has ended in the meantime
                self._left_at = math.inf
            elif isinstance(message, Stop):
                self._loop.call_later(0.001, self._die, 0)
                return
            else:
                self._batch = message
                self._begin(message)
                self._step()

    def _begin(self, batch: Batch) -> None:
        self._model_s, self._sizes = 0.0, []
        self._outcomes = [b""] * len(batch.inputs)
        self._instances = []
        self._began = self._loop.time()
        now = self._launcher.clock()
        good: list[int] = []
        for position, raw in enumerate(batch.inputs):
            instances: list[Instance] | None = None
            if batch.deadlines and batch.deadlines[position] <= now:
                late = DeadlineExceeded("the deadline passed while another batch ran")
                self._outcomes[position] = late.to_failure()
            else:
                form = batch.forms[position] if batch.forms else "json"
                instances = (_json if form == "json" else _msgpack).decode(raw)
                if any(act == "refuse" for _, act, _ in instances):
                    self._outcomes[position] = InvalidInput("not this").to_failure()
                else:
                    good.append(position)
            self._instances.append(instances)
        self._launcher.on_batch(self._instances)
        self._steps = deque([good] if good else [])

    def _step(self) -> None:
        """Run what is next of the batch, or answer."""
        if not self._steps:
            answers = Answers(self._outcomes, self._model_s, self._sizes)
            self._batch, self._instances = None, []
            self._tell(answers)
            self._next()
            return
        model, positions = self._launcher.model, self._steps[0]
        instances = [one for p in positions for one in self._instances[p] or []]
        now = self._loop.time()
        is_first = not self._sizes
        for nonce, _, _ in instances:
            self._launcher.ledger.runs.append(Run(nonce, self._launcher.life, now, is_first))
        if any(act == "hang" for _, act, _ in instances):
            return
        size = self._manifest.batching.max_batch_size
        calls = -(-len(instances) // size)
        took_ms = calls * model.base_ms + len(instances) * model.each_ms
        took_ms += sum(work_ms for _, _, work_ms in instances)
        took_s = took_ms / 1000 * self._launcher.chance.uniform(0.9, 1.1)
        self._sizes += [
            min(size, len(instances) - start) for start in range(0, len(instances), size)
        ]
        self._model_s += took_s
        self._work(instances, took_s)

    def _work(self, instances: list[Instance], took_s: float) -> None:
        self._working = self._loop.call_later(took_s, self._stepped, instances)
        self._look_whether_cancelled()

    def _stepped(self, instances: list[Instance]) -> None:
        self._working = None
        if self.is_dead:
            return
        acts = {act for _, act, _ in instances}
        if "exit" in acts:
            self._die(7)
            return
        if "oom" in acts:
            self._die(-9)
            return
        positions = self._steps.popleft()
        if "raise" in acts and len(positions) > 1:
            self._steps.extendleft([p] for p in reversed(positions))
        elif "raise" in acts:
            failure = ModelFailed("the model raised ValueError").to_failure()
            self._outcomes[positions[0]] = failure
        else:
            for position in positions:
                self._outcomes[position] = self._predict(position)
        self._step()

    def _predict(self, position: int) -> bytes:
        assert self._batch is not None
        nonces = [nonce for nonce, _, _ in self._instances[position] or []]
        answer = [self._launcher.model.answer(nonce) for nonce in nonces]
        is_json = not self._batch.forms or self._batch.forms[position] == "json"
        if not is_json:
            return msgspec.msgpack.encode(answer)
        padding = self._batch.inputs[position].tobytes().index(b"[")
        return b" " * padding + msgspec.json.encode(answer)

    def _had(self) -> list[int]:
        """Give the nonces that it may be to blame for."""
        return [one[0] for some in self._instances for one in some or []]

    def _runs_cancelled_jobs(self, now: float) -> bool:
        """Tell whether that is all it runs. It is not told so while it has the next batch."""
        jobs = {job.ask.nonce: job for job in self._launcher.ledger.jobs if job.was_cancelling}
        return all(
            nonce in jobs and now < self._began + jobs[nonce].ask.timeout_s  # else it hangs
            for nonce in self._had()
        )

    def _die(self, code: int) -> None:
        if self.is_dead:
            return
        self.is_dead = True
        launcher = self._launcher
        if code != 0 and self.is_ready:
            cause = "killed" if code == -9 else "crashed"
            if self.was_killed:
                cause = "cancelled" if self._was_unwanted else "hung"
            nonces = self._had()
            if nonces or cause != "hung":  # else it took too long to be taken into service
                now = self._loop.time()
                launcher.ledger.deaths.append(Death(nonces, launcher.life, cause, now))
        self._arrive(self._closed)
        launcher.runners.remove(self)
        self._arrive(self._gone, code, later_s=launcher.chance.uniform(0, 0.003))

    def _closed(self) -> None:
        if not self.opened.done():
            self.opened.cancel()
        self._on_closed()

    def _gone(self, code: int) -> None:
        if not self._exited.done():
            self._exited.set_result(code)

    def _tell(self, message: Ready | LoadFailed | Answers) -> None:
        self._arrive(self._receive, bytes(encode_frame(message)))

    def _receive(self, frame: bytes) -> None:
        message = to_pool.decode(memoryview(frame)[FRAME_HEADER_BYTES:])
        if isinstance(message, Answers):
            self._on_reply(message)
        elif not self.opened.done():
            self.opened.set_result(message)

    def _arrive(self, callback: Callable[..., None], *args: object, later_s: float = 0.0) -> None:
        """Call back in the pool's process, in order."""
        way_s = self._launcher.chance.uniform(*PIPE_S) + later_s
        self._arrived = max(self._arrived, self._loop.time() + way_s)
        self._loop.call_at(self._arrived, callback, *args, context=self._launcher.process.context)
