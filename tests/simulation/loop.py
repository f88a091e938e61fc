"""Time: an event loop that never waits. When nothing is left to do now, it is later.

A process is simulated by the context in which its callbacks run: so one can be frozen, as by
SIGSTOP, or killed, and then no line of its code runs any more, not even a ``finally``.
"""

from __future__ import annotations

import asyncio
import heapq
import socket
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from functools import partial
from typing import Any, Literal, TypeVar

T = TypeVar("T")

LEAST_S = 1e-6
THREAD_S = 0.002
MOST_TURNS_AT_ONCE = 20_000

PROCESS: ContextVar[Process | None] = ContextVar("PROCESS", default=None)


class Stuck(Exception):
    """The simulation cannot go on: everybody waits for somebody else, or time stands still."""


class Process:
    """A simulated process: whatever runs in its context.

    Args:
        name: For the log.
        loop: Where it runs.
    """

    def __init__(self, name: str, loop: VirtualLoop) -> None:
        self.name = name
        self.state: Literal["up", "frozen", "dead"] = "up"
        self.context: Context = copy_context()
        self.context.run(PROCESS.set, self)
        self.tasks: list[asyncio.Task[Any]] = []
        self.clock: Callable[[], float] | None = None  # its machine's, where somebody asks for it
        self._loop = loop
        self._held: list[asyncio.Handle] = []

    def __repr__(self) -> str:
        return self.name

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run ``work`` in it."""
        return self._loop.create_task(work, context=self.context.copy())

    def soon(self, callback: Callable[..., object], *args: Any) -> None:
        """Call back in it."""
        self._loop.call_soon(callback, *args, context=self.context)

    def run(self, callback: Callable[..., T], *args: Any) -> T:
        """Call in it, now."""
        return self.context.copy().run(callback, *args)

    def freeze(self) -> None:
        """Let it stand still; what comes meanwhile waits before it."""
        if self.state == "up":
            self.state = "frozen"
            self._loop.halted.add(self)

    def thaw(self) -> None:
        """Let it go on."""
        if self.state == "frozen":
            self.state = "up"
            self._loop.halted.discard(self)
            self._loop.again(self._held)
            self._held = []

    def kill(self) -> None:
        """End it: nothing of it runs any more."""
        self.state = "dead"
        self._loop.halted.add(self)
        self._held = []

    def hold(self, handle: asyncio.Handle) -> None:
        """Keep a callback for later, if there is a later."""
        if self.state == "frozen":
            self._held.append(handle)


class SimulatedTask(asyncio.Task[T]):
    """A task whose place in a set does not depend on where in memory it is."""

    def __init__(self, work: Any, *, serial: int, **more: Any) -> None:
        self._serial = serial
        super().__init__(work, **more)

    def __hash__(self) -> int:
        return self._serial

    def __eq__(self, other: object) -> bool:
        return self is other


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop in virtual time.

    Args:
        now: What its clock shows at the beginning.

    Attributes:
        connect: Makes connections; see ``network.Network``.
        halted: The processes that stand still, or are dead.
        defects: What was raised where nobody could catch it.
    """

    def __init__(self, now: float = 1000.0) -> None:
        super().__init__()
        self.connect: Callable[..., Coroutine[Any, Any, tuple[Any, Any]]] | None = None
        self.halted: set[Process] = set()
        self.defects: list[str] = []
        self.turns = 0
        self._now = now
        self._soon: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._serial = 0
        self._still = 0
        self.set_task_factory(self._make_task)
        self.set_exception_handler(self._on_defect)

    def time(self) -> float:
        return self._now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._soon.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        if delay > 0:  # a real clock goes on while we look at it
            delay = max(delay, LEAST_S)
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._serial += 1
        heapq.heappush(self._timers, (when, self._serial, handle))
        return handle

    def again(self, handles: list[asyncio.Handle]) -> None:
        """Run what was held back."""
        self._soon.extend(handles)

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))]

    async def create_connection(  # type: ignore[override]
        self, protocol_factory: Callable[[], Any], host: Any, port: Any, **_: Any
    ) -> tuple[Any, Any]:
        assert self.connect is not None
        return await self.connect(protocol_factory, host, port)

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Do at once what takes a thread in reality, and tell soon. An executor that is simulated
        has a ``run`` of its own.
        """
        if executor is not None:
            own: asyncio.Future[T] = executor.run(partial(func, *args))
            return own
        done: asyncio.Future[T] = self.create_future()

        def finish() -> None:
            if done.done():
                return
            try:
                done.set_result(func(*args))
            except Exception as error:
                done.set_exception(error)

        self.call_later(THREAD_S, finish)
        return done

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Leave it where it is: it is passed over when its time comes."""

    def _write_to_self(self) -> None:
        """There is nobody to wake."""

    def _run_once(self) -> None:
        soon, timers = self._soon, self._timers
        if soon:
            self._still += 1
            if self._still > MOST_TURNS_AT_ONCE:
                raise Stuck(f"{MOST_TURNS_AT_ONCE} turns at {self._now:.6f}: {list(soon)[:5]}")
        else:
            while timers and timers[0][2]._cancelled:
                heapq.heappop(timers)
            if not timers:
                raise Stuck("nothing is left to wait for")
            if timers[0][0] > self._now:
                self._now = timers[0][0]
                self._still = 0
        while timers and timers[0][0] <= self._now:
            soon.append(heapq.heappop(timers)[2])
        self.turns += 1
        for _ in range(len(soon)):
            handle = soon.popleft()
            if handle._cancelled:
                continue
            if self.halted:
                process = handle._context.get(PROCESS)  # type: ignore[attr-defined]
                if process is not None and process.state != "up":
                    process.hold(handle)
                    continue
            handle._run()

    def _make_task(self, _: Any, work: Any, **more: Any) -> SimulatedTask[Any]:
        self._serial += 1
        task: SimulatedTask[Any] = SimulatedTask(work, serial=self._serial, loop=self, **more)
        process = PROCESS.get() if more.get("context") is None else more["context"].get(PROCESS)
        if process is not None:
            process.tasks.append(task)
        return task

    def _on_defect(self, _: Any, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.defects.append(f"{context.get('message')}: {error!r}")
