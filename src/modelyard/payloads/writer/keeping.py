"""Gives chunks to a sink, one after the other, in a thread of its own: the sink may hang."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from modelyard.payloads.writer.chunks import Chunk

FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.5, 30.0


class Sink(Protocol):
    """Where chunks are kept."""

    def keep(self, chunk: Chunk) -> None:
        """Keep a chunk, maybe forever trying; any exception means that it is not kept."""
        ...


class Keeper:
    """The chunks that wait for a sink.

    Args:
        open_sink: Makes the sink; is tried again when it fails.

    Attributes:
        kept: How many records have been kept.
        trouble: Why the last attempt failed; empty if it did not.
    """

    def __init__(self, open_sink: Callable[[], Sink]) -> None:
        self._open_sink = open_sink
        self._waiting: deque[Chunk] = deque()
        self._changed = threading.Condition()
        self._size = 0
        self.kept = 0
        self.trouble = ""
        threading.Thread(target=self._run, daemon=True).start()

    @property
    def size(self) -> int:
        """Bytes of all that waits."""
        return self._size

    def put(self, chunk: Chunk) -> None:
        """Let a chunk wait to be kept."""
        with self._changed:
            self._waiting.append(chunk)
            self._size += chunk.size
            self._changed.notify()

    def finish(self, timeout_s: float) -> None:
        """Wait until all is kept, or time is up."""
        until = time.monotonic() + timeout_s
        while self._waiting and time.monotonic() < until:
            time.sleep(0.01)

    def _run(self) -> None:
        sink: Sink | None = None
        backoff_s = FIRST_BACKOFF_S
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                chunk = self._waiting[0]
            count = len(chunk.records)
            try:
                sink = sink or self._open_sink()
                sink.keep(chunk)
            except Exception as error:  # of whichever library: it is told, and tried again
                self.kept += count - len(chunk.records)  # a sink of events takes them one by one
                self.trouble = f"{type(error).__name__}: {error}"
                time.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, LONGEST_BACKOFF_S)
                continue
            backoff_s, self.trouble = FIRST_BACKOFF_S, ""
            with self._changed:
                self.kept += count
                self._size -= chunk.size
                self._waiting.popleft()
