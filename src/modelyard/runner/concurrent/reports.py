"""What an async model tells its pool while it predicts: how far it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from modelyard.core.messages import Progress
from modelyard.runner.reports import EVERY_S, WHOLE, progress_of

Task = asyncio.Task[Any]


class TaskReports:
    """The way from the calls of a model that are under way to its pool.

    Args:
        id_of: Returns the id of the batch that a task answers; None if it answers none.
        send: Sends to the pool.
    """

    def __init__(
        self, id_of: Callable[[Task], int | None], send: Callable[[Progress], None]
    ) -> None:
        self.part = WHOLE  # of whichever call: it is not looked at
        self._id_of = id_of
        self._send = send
        self._next: WeakKeyDictionary[Task, float] = WeakKeyDictionary()

    def progress(self, fraction: float, message: str) -> None:
        """See ``Model.progress``."""
        try:
            task = asyncio.current_task()
        except RuntimeError:  # another thread
            return
        now = time.monotonic()
        if task is None or now < self._next.get(task, 0.0):
            return
        if (id_ := self._id_of(task)) is not None:
            self._next[task] = now + EVERY_S
            self._send(progress_of(fraction, message, id_))

    def is_cancelled(self) -> bool:
        """Return False: a task that is cancelled need not ask."""
        return False
