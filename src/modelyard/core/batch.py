"""The backlog: requests that wait for a runner, and the order in which they run.

Within a priority the earliest deadline goes first. One of every ``OLDEST_EVERY`` batches takes
those that came first instead, so that a stream of requests with earlier deadlines cannot starve
them. One of every ``NORMAL_EVERY`` batches begins with normal requests, so that a stream of
high-priority requests cannot. Requests of low priority run when no others wait, and in one of every
``LOW_EVERY`` batches; they share no batch with others, which would wait for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Literal, Protocol, TypeVar

Priority = Literal["high", "normal", "low"]

NORMAL_EVERY = 4
LOW_EVERY = 16
_ORDERS: tuple[tuple[Priority, ...], ...] = (
    ("high", "normal", "low"),
    ("normal", "high", "low"),
    ("low", "high", "normal"),
)
OLDEST_EVERY = 3

LARGEST_BATCH_BYTES = 16 << 20


class Waiting(Protocol):
    """An item of a backlog."""

    @property
    def priority(self) -> Priority: ...
    @property
    def deadline(self) -> float: ...
    @property
    def instances(self) -> int: ...
    @property
    def input_bytes(self) -> int: ...
    @property
    def is_gone(self) -> bool:
        """Whether nobody wants the answer any more."""
        ...


W = TypeVar("W", bound=Waiting)


class Backlog(Generic[W]):
    """Requests in the order in which they should run.

    Sorted when a batch is taken. Requests mostly arrive in the order of their deadlines, and
    sorting a sorted list is one pass. Taking 32 from a heap took twice as long, while the model was
    idle.
    """

    def __init__(self) -> None:
        self._lines: dict[Priority, list[tuple[float, int, W]]] = {
            priority: [] for priority in _ORDERS[0]
        }
        self._added = 0
        self._taken = 0

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def __iter__(self) -> Iterator[W]:
        return (item for line in self._lines.values() for _, _, item in line)

    @property
    def instances(self) -> int:
        """Number of waiting instances, over all requests."""
        return sum(item.instances for item in self)

    def add(self, item: W) -> None:
        """Add ``item``."""
        self._added += 1
        self._lines[item.priority].append((item.deadline, self._added, item))

    def take(self, *, max_instances: int, now: float) -> tuple[list[W], list[W]]:
        """Remove and return (the next batch, the items that expired before they could run).

        A batch holds at most ``max_instances`` instances and ``LARGEST_BATCH_BYTES``. An item that
        exceeds a limit by itself is a batch of its own. Items that are gone are removed and
        returned in neither list.
        """
        batch: list[W] = []
        expired: list[W] = []
        room, bytes_left = max_instances, LARGEST_BATCH_BYTES
        self._taken += 1
        for priority in self._order():
            line = self._lines[priority]
            if not line or (batch and "low" in (priority, batch[0].priority)):
                continue
            line.sort(key=_age if self._taken % OLDEST_EVERY == 0 else None)
            looked_at = 0
            for deadline, _, item in line:
                if item.is_gone:
                    pass
                elif deadline <= now:
                    expired.append(item)
                elif (item.instances <= room and item.input_bytes <= bytes_left) or not batch:
                    batch.append(item)
                    room -= item.instances
                    bytes_left -= item.input_bytes
                else:
                    break
                looked_at += 1
            del line[:looked_at]
        return batch, expired

    def _order(self) -> tuple[Priority, ...]:
        if self._taken % LOW_EVERY == 0:
            return _ORDERS[2]
        return _ORDERS[1] if self._taken % NORMAL_EVERY == 0 else _ORDERS[0]

    def prune(self, now: float) -> list[W]:
        """Drop the items that are gone; remove and return those that expired."""
        expired = [item for item in self if item.deadline <= now and not item.is_gone]
        for line in self._lines.values():
            line[:] = [entry for entry in line if entry[0] > now and not entry[2].is_gone]
        return expired


def _age(entry: tuple[float, int, object]) -> int:
    return entry[1]
