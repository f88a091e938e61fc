"""Notices clients that leave before their answer is there.

ASGI tells of it only to whoever waits in ``receive``, and that takes a task of its own. Most
answers are out before it would have paid: a client is watched only once it has waited for a tick.
"""

from __future__ import annotations

import asyncio
from typing import Any

from modelyard.gateway.types import Receive

TICK_S = 0.025


class Client:
    """One client that waits."""

    __slots__ = ("is_gone", "receive", "task", "watcher")

    def __init__(self, receive: Receive, task: asyncio.Task[Any]) -> None:
        self.receive = receive
        self.task = task
        self.is_gone = False
        self.watcher: asyncio.Task[None] | None = None


class Clients:
    """All clients that wait now. Cancels the task of one that leaves."""

    def __init__(self) -> None:
        self._new: set[Client] = set()
        self._waited: set[Client] = set()
        self._is_ticking = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def enter(self, receive: Receive) -> Client:
        """Note that the current task's client waits from now on."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()  # once: it asks the kernel for our pid
        task = asyncio.current_task(loop)
        assert task is not None
        client = Client(receive, task)
        self._new.add(client)
        if not self._is_ticking:
            self._is_ticking = True
            loop.call_later(TICK_S, self._tick)
        return client

    def leave(self, client: Client) -> None:
        """Note that the client waits no more."""
        self._new.discard(client)
        self._waited.discard(client)
        if client.watcher is not None:
            client.watcher.cancel()

    def _tick(self) -> None:
        for client in self._waited:
            client.watcher = asyncio.create_task(self._watch(client))
        self._waited, self._new = self._new, set()
        self._is_ticking = bool(self._waited)
        if self._is_ticking:
            asyncio.get_running_loop().call_later(TICK_S, self._tick)

    async def _watch(self, client: Client) -> None:
        while (await client.receive())["type"] != "http.disconnect":
            pass
        client.is_gone = True
        client.task.cancel()
