"""How a blocking model's metrics get to its pool: what is new, twice a second at most.

They are written to the socket by the thread that answers, between two answers or while ``predict``
runs. What another thread measures waits until that thread measures, answers or is idle.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time

from modelyard.core.messages import encode_frame
from modelyard.metering import Metrics
from modelyard.model import Model

EVERY_S = 0.5


def metrics_of(model: Model) -> Metrics:
    """Return the metrics of a model; empty ones if it has something else of this name."""
    metrics: object = model.metrics if type(model).metrics is Model.metrics else None
    return metrics if isinstance(metrics, Metrics) else Metrics()


class Metering:
    """The way from a model's metrics to its pool.

    Args:
        metrics: Of the model.
        channel: The socket to the pool.
    """

    def __init__(self, metrics: Metrics, channel: socket.socket) -> None:
        self._metrics = metrics
        self._channel = channel
        self._thread = threading.get_ident()
        self._next = 0.0
        metrics.on_news = self._on_news
        os.register_at_fork(after_in_child=metrics.forked)

    def tell(self) -> None:
        """Tell what is new."""
        if self._metrics.has_news:
            self._next = time.monotonic() + EVERY_S
            self._channel.sendall(encode_frame(self._metrics.take()))

    def tell_last(self) -> None:
        """Tell what is new before the runner ends, if anybody listens."""
        with contextlib.suppress(OSError):
            self.tell()

    def tell_in_time(self) -> None:
        """Tell what is new, unless that was done a moment ago."""
        if self._metrics.has_news and time.monotonic() >= self._next:
            self.tell()

    def _on_news(self) -> None:
        if threading.get_ident() == self._thread:  # another would write amid an answer
            self.tell_in_time()
