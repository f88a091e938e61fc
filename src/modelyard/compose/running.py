"""Around what a process runs: work in the background, signals, the garbage collector."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Protocol


class Stop(Protocol):
    """Called to end the process."""

    def __call__(self, *, is_forced: bool) -> None: ...


@contextlib.asynccontextmanager
async def background(*runs: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run ``runs`` as long as the block; should one fail, the block is cancelled."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(run) for run in runs]
        yield
        for task in tasks:
            task.cancel()


def spare_the_collector() -> None:
    """Exclude everything imported so far from garbage collection, and collect less often.

    Requests create few reference cycles. Scanning all modules for them took 10 % of the gateway's
    time under load.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


@contextlib.contextmanager
def stop_on_signals(stop: Stop) -> Iterator[None]:
    """Call ``stop`` on SIGTERM and SIGINT: the first asks, a second one forces."""
    loop = asyncio.get_running_loop()
    came = 0

    def on_signal() -> None:
        nonlocal came
        came += 1
        stop(is_forced=came > 1)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def own_name() -> str:
    """Return a unique name that shows where the process runs. The host names of a Deployment's pods
    differ only at their end, and their process ids may be equal.
    """
    return f"{socket.gethostname()[:32]}.{os.getpid()}.{secrets.token_hex(4)}"
