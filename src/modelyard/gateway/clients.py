"""Notices clients that leave before their answer is there.

ASGI tells of it only to whoever waits in ``receive``, and that takes a task of its own. Most
answers are out before it would have paid: a client is watched only once it has waited for a tick.
"""

from __future__ import annotations

import asyncio
from typing import Any

from modelyard.gateway.types import Receive

TICK_S = 0.025


Task = asyncio.Task[Any]


class Clients:
    """All clients that wait now, by their tasks. Cancels the task of one that leaves."""

    def __init__(self) -> None:
        self._new: dict[Task, Receive] = {}
        self._waited: dict[Task, Receive] = {}
        self._watchers: dict[Task, asyncio.Task[None]] = {}
        self._gone: set[Task] = set()
        self._is_ticking = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def enter(self, receive: Receive) -> Task:
        """Note that the current task's client waits from now on."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()  # once: it asks the kernel for our pid
        task = asyncio.current_task(loop)
        assert task is not None
        self._new[task] = receive
        if not self._is_ticking:
            self._is_ticking = True
            loop.call_later(TICK_S, self._tick)
        return task

    def leave(self, task: Task) -> bool:
        """Note that the client waits no more; tells whether it has left."""
        if self._new.pop(task, None) is None:
            self._waited.pop(task, None)
            watcher = self._watchers.pop(task, None)
            if watcher is not None:
                watcher.cancel()
                is_gone = task in self._gone
                self._gone.discard(task)
                return is_gone
        return False

    def _tick(self) -> None:
        for task, receive in self._waited.items():
            self._watchers[task] = asyncio.create_task(self._watch(task, receive))
        self._waited, self._new = self._new, {}
        self._is_ticking = bool(self._waited)
        if self._is_ticking:
            asyncio.get_running_loop().call_later(TICK_S, self._tick)

    async def _watch(self, task: Task, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._gone.add(task)
        task.cancel()
