"""How the metrics of a model with an event loop get to its pool: what is new, twice a second."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable

from modelyard.core.messages import Measured
from modelyard.metering import Metrics
from modelyard.runner.metering import EVERY_S


class LoopMetering:
    """The way from a model's metrics to its pool; made on the loop.

    Args:
        metrics: Of the model. Any thread may measure.
        send: Sends to the pool.
    """

    def __init__(self, metrics: Metrics, send: Callable[[Measured], None]) -> None:
        self._metrics = metrics
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._is_due = False
        metrics.on_news = self._on_news
        os.register_at_fork(after_in_child=metrics.forked)
        if metrics.has_news:  # of loading
            self._on_news()

    def _on_news(self) -> None:
        if not self._is_due:
            self._is_due = True
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._loop.call_later, EVERY_S, self.tell)

    def tell(self) -> None:
        """Tell what is new."""
        self._is_due = False
        if self._metrics.has_news:
            self._send(self._metrics.take())
