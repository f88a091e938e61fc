"""The last faults of this process's pools, and what their models printed, for pages.

It listens to what the pools log, so it knows just what the log says: what is below ``log_level`` is
not there. A gateway in a cluster has no pools; there the workers' logs say it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

LOGGER = "modelyard.pool"
MOST_FAULTS = 200
MOST_LINES = 60  # of each target
MOST_TARGETS = 1000
TRACE_LINES = 12


class Fault(NamedTuple):
    """Something that went wrong.

    Attributes:
        at: Unix time, in seconds.
        target: As ``name/version``.
        kind: ``crashed``, ``killed``, ``hung``, ``cancelled``, ``load_failed``: of a runner;
            ``model_failed``: of a request that the model raised on.
        how: In words.
        requests: Ids of the requests that it had.
        last_lines: What the runner printed last; or the end of the exception's trace.
    """

    at: float
    target: str
    kind: str
    how: str
    requests: tuple[str, ...] = ()
    last_lines: tuple[str, ...] = ()


class Line(NamedTuple):
    """A line that a model printed or logged. ``requests``: ids of those that it may be about."""

    at: float
    level: str
    text: str
    trace: str
    requests: tuple[str, ...]


class Faults(logging.Handler):
    """Keeps what the pools log, as long as it is ``listening``."""

    def __init__(self) -> None:
        super().__init__()
        self._faults: deque[Fault] = deque(maxlen=MOST_FAULTS)
        self._lines: dict[str, deque[Line]] = {}

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Keep what is logged as long as the block."""
        logger = logging.getLogger(LOGGER)
        logger.addHandler(self)
        try:
            yield
        finally:
            logger.removeHandler(self)

    def faults(self) -> list[Fault]:
        """Return the last faults, the newest first."""
        return list(reversed(self._faults))

    def lines(self, target: str) -> list[Line]:
        """Return what a target printed last, the newest last."""
        return list(self._lines.get(target, ()))

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record (called by logging)."""
        fields = vars(record)
        target, event = str(fields.get("model", "")), record.msg
        if event == "model_output":
            self._keep_line(target, record)
        elif event == "runner_lost":
            self._faults.append(
                Fault(
                    at=record.created,
                    target=target,
                    kind=str(fields.get("cause", "")),
                    how=str(fields.get("how", "")),
                    requests=_texts(fields.get("ids")),
                    last_lines=_texts(fields.get("last_lines")),
                )
            )
        elif event == "model_failed":
            why, request = str(fields.get("why", "")), str(fields.get("id", ""))
            trace = self._trace_of(target, request)
            self._faults.append(Fault(record.created, target, event, why, (request,), trace))

    def _trace_of(self, target: str, request: str) -> tuple[str, ...]:
        """Return the end of what was logged of a request that the model raised on, just before."""
        for line in reversed(self._lines.get(target, ())):
            if line.trace and request in line.requests:
                return tuple(line.trace.splitlines()[-TRACE_LINES:])
        return ()

    def _keep_line(self, target: str, record: logging.LogRecord) -> None:
        kept = self._lines.get(target)
        if kept is None:
            if len(self._lines) >= MOST_TARGETS:
                self._lines.pop(next(iter(self._lines)))
            kept = self._lines[target] = deque(maxlen=MOST_LINES)
        fields = vars(record)
        kept.append(
            Line(
                at=record.created,
                level=record.levelname.lower(),
                text=str(fields.get("text", "")),
                trace=str(fields.get("trace", "")),
                requests=_texts(fields.get("ids")),
            )
        )


def _texts(given: object) -> tuple[str, ...]:
    return tuple(map(str, given)) if isinstance(given, list) else ()
