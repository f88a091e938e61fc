"""A pool under the control of a test: time, and runners that are no processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

from modelyard.core.batch import Priority
from modelyard.core.call import Call
from modelyard.core.errors import Failure
from modelyard.core.manifest import Batching, Limits, Manifest, Resources, Scaling
from modelyard.core.messages import (
    Announcement,
    Answers,
    Batch,
    Begin,
    Done,
    Leave,
    LoadFailed,
    Measured,
    Ready,
    Reply,
    Request,
    Said,
    Stop,
    ToRunner,
)
from modelyard.core.names import Target
from modelyard.core.spans import Ids, Span
from modelyard.core.trail import Trail
from modelyard.pool.output import Line
from modelyard.pool.pool import Pool
from modelyard.pool.spans import PoolSpans
from tests.unit.asking import Clock, settle

KILLED, CRASHED = -9, 7


def manifest(
    *,
    batching: Batching = Batching(),  # noqa: B008
    limits: Limits = Limits(),  # noqa: B008
    scaling: Scaling = Scaling(),  # noqa: B008
    resources: Resources = Resources(),  # noqa: B008
) -> Manifest:
    """Give what a ``model.toml`` could say."""
    return Manifest(
        "iris",
        "1",
        "model:Iris",
        batching=batching,
        limits=limits,
        scaling=scaling,
        resources=resources,
    )


class FakeRunner:
    """A runner; see ``pool.slot.Runner``. It does what the test says, and ends when it is killed.

    Attributes:
        batches: What it was handed.
        is_stopped: Whether it was asked to unload.
        is_left: Whether it was told that nobody waits for its batch.
    """

    def __init__(
        self,
        *,
        on_reply: Callable[[Reply], None],
        on_closed: Callable[[], None],
        on_line: Callable[[Line], None],
    ) -> None:
        self.opened: asyncio.Future[Ready | LoadFailed] = asyncio.Future()
        self.batches: list[Batch | Begin] = []
        self.is_stopped = self.is_read = self.is_left = False
        self.say = on_line
        self._on_reply = on_reply
        self._on_closed = on_closed
        self._code: asyncio.Future[int] = asyncio.Future()

    # What the slot calls.

    def send(self, message: ToRunner) -> None:
        if isinstance(message, Stop):
            self.is_stopped = True
        elif isinstance(message, Leave):
            self.is_left = True
        else:
            assert isinstance(message, Batch | Begin)
            self.batches.append(message)

    def kill(self) -> None:
        if not self._code.done():
            self._code.set_result(KILLED)

    def read_output(self) -> None:
        self.is_read = True

    def last_lines(self) -> list[str]:
        return ["last words"]

    async def wait(self) -> int:
        code = await asyncio.shield(self._code)
        if not self.opened.done():
            self.opened.cancel()
        return code

    # What the test has it do.

    @property
    def is_gone(self) -> bool:
        return self._code.done()

    async def load(self, *, digest: str = "sha256:0", warm_up_s: float = 0.001) -> None:
        """Have loaded the model."""
        self.opened.set_result(Ready(digest, b"{}", b"{}", b"[1]", warm_up_s))
        await settle()

    async def fail(self, reason: str) -> None:
        """Fail to load it."""
        self.opened.set_result(LoadFailed(reason))
        await settle()

    async def answer(self, *outcomes: bytes | Failure, model_s: float = 0.01) -> None:
        """Answer a batch."""
        self._on_reply(Answers(list(outcomes), model_s, [len(outcomes)]))
        await settle()

    async def be_done(self, begun: int, *outcomes: bytes | Failure) -> None:
        """Answer one of the batches that are under way, by its place in ``batches``."""
        batch = self.batches[begun]
        assert isinstance(batch, Begin)
        self._on_reply(Done(batch.id, Answers(list(outcomes), 0.01, [len(outcomes)])))
        await settle()

    async def end(self, code: int) -> None:
        """End by itself, or by somebody else's doing."""
        self._on_closed()
        await settle()
        if not self._code.done():
            self._code.set_result(code)
        await settle()


class NotedPoolMetrics:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.waits_s: list[list[float]] = []
        self.answered: list[Answers] = []
        self.lost: list[str] = []
        self.expirations = self.late = 0

    def batch_started(self, waits_s: list[float]) -> None:
        self.waits_s.append(waits_s)

    def batch_answered(self, answers: Answers) -> None:
        self.answered.append(answers)

    def runner_lost(self, cause: str) -> None:
        self.lost.append(cause)

    def expired(self, count: int) -> None:
        self.expirations += count

    def came_late(self) -> None:
        self.late += 1

    def measured(self, runner: int, measured: Measured) -> None:
        pass

    def runner_ended(self, runner: int) -> None:
        pass


class Pooling:
    """A pool with everything it calls.

    Attributes:
        runners: All that were started.
        told: What was announced.
        spans: What was recorded, where it is traced.
        refusal: Raised in place of starting a runner.
    """

    def __init__(
        self, model: Manifest, *, may_sleep: bool = False, is_traced: bool = False
    ) -> None:
        self.clock = Clock()
        asyncio.get_running_loop().time = self.clock  # type: ignore[method-assign]
        self.spans: list[Span] = []
        self.metrics = NotedPoolMetrics()
        self.runners: list[FakeRunner] = []
        self.told: list[Announcement] = []
        self.refusal: OSError | None = None
        self.pool = Pool(
            folder=Path("iris"),
            manifest=model,
            metrics=self.metrics,
            announce=self.told.append,
            launch=self._launch,
            clock=self.clock,
            may_sleep=may_sleep,
            spans=self._tracing() if is_traced else None,
        )

    def _tracing(self) -> PoolSpans:
        return PoolSpans(
            Target("iris", "1"),
            self.spans.append,
            ids=Ids(Random(1)),
            clock=self.clock,
            wall_offset=lambda: 0.0,
            has_queue=True,
        )

    async def _launch(
        self,
        folder: Path,
        manifest: Manifest,
        *,
        on_reply: Callable[[Reply], None],
        on_closed: Callable[[], None],
        on_line: Callable[[Line], None],
        on_step: Callable[[str], None],
        on_said: Callable[[Said], None],
    ) -> FakeRunner:
        assert (folder, manifest) == (Path("iris"), self.pool.manifest)
        await asyncio.sleep(0)
        if self.refusal is not None:
            raise self.refusal
        runner = FakeRunner(on_reply=on_reply, on_closed=on_closed, on_line=on_line)
        self.runners.append(runner)
        return runner

    @property
    def state(self) -> str:
        """As the catalog knows it, with the reason."""
        last = self.told[-1]
        return last.state + (f": {last.reason}" if last.reason else "")

    async def ask(
        self,
        number: int = 1,
        *,
        timeout_s: float = 30,
        priority: Priority = "normal",
        is_suspect: bool = False,
        trail: Trail | None = None,
    ) -> Call:
        """Let a request come."""
        deadline = self.clock.now + timeout_s
        raw = memoryview(b"[%d]" % number)
        asked = Request(f"r{number}", Target("iris", "1"), raw, deadline, priority, trail=trail)
        call = Call(asked, lambda _: None)
        self.pool.submit(call, is_suspect=is_suspect)
        await settle()
        return call

    async def pass_time(self, seconds: float, *, step: float = 0.0) -> None:
        """Let time pass, at once or in steps."""
        for _ in range(round(seconds / step) if step else 1):
            self.clock.now += step or seconds
            await settle()


@asynccontextmanager
async def pooling(
    model: Manifest | None = None, *, may_sleep: bool = False, is_traced: bool = False
) -> AsyncIterator[Pooling]:
    """Give a pool that has begun; at the end all of its runners end."""
    pooling = Pooling(model or manifest(), may_sleep=may_sleep, is_traced=is_traced)
    async with pooling.pool:
        await settle()
        try:
            yield pooling
        finally:
            pooling.pool.stop()
            await settle()
            for runner in pooling.runners:
                runner.kill()


@asynccontextmanager
async def serving(
    model: Manifest | None = None, *, is_traced: bool = False
) -> AsyncIterator[Pooling]:
    """Give a pool whose first runner has loaded."""
    async with pooling(model, is_traced=is_traced) as found:
        await found.runners[0].load()
        yield found


def inputs_of(runner: FakeRunner) -> list[list[bytes]]:
    """Give what it was handed, batch by batch."""
    return [[bytes(raw) for raw in batch.inputs] for batch in runner.batches]


CONCURRENT = manifest(batching=Batching(max_batch_size=1, concurrency=4))
ONE_BY_ONE = manifest(batching=Batching(max_batch_size=1))
BY_TWO = manifest(batching=Batching(max_batch_size=2))
UP_TO_TWO = manifest(scaling=Scaling(max_runners=2, idle_s=10), batching=Batching(max_batch_size=1))
SLEEPY = manifest(scaling=Scaling(scale_to_zero=True, idle_s=10))


def kind(call: Call) -> type | None:
    """Give the type of a call's outcome."""
    return None if call.outcome is None else type(call.outcome)
