"""The calls that wait for a runner, and which run next. No knowledge of runners or event loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from modelyard.core.batch import Backlog
from modelyard.core.call import Call
from modelyard.core.manifest import Batching


class Waiting:
    """Ordinary calls, which run in batches, and suspects, which run alone.

    A suspect was in a batch whose runner ended. Suspects and batches take turns.

    Args:
        batching: The model's batching limits.
        on_late: Called with calls that were dropped because their deadline had passed.
    """

    def __init__(self, batching: Batching, *, on_late: Callable[[list[Call]], None]) -> None:
        self._size = batching.max_batch_size
        self._wait_s = batching.batch_wait_ms / 1000
        self._on_late = on_late
        self._backlog: Backlog[Call] = Backlog()
        self._suspects: deque[Call] = deque()
        self._is_suspects_turn = False
        self._last_suspect: Call | None = None

    def __bool__(self) -> bool:
        return bool(self._backlog or self._suspects)

    def __iter__(self) -> Iterator[Call]:
        yield from self._backlog
        yield from self._suspects

    def add(self, call: Call, *, is_suspect: bool = False) -> None:
        """Add a call."""
        if is_suspect:
            self._suspects.append(call)
        else:
            self._backlog.add(call)

    @property
    def has_suspects(self) -> bool:
        """Whether suspects wait."""
        return bool(self._suspects)

    def is_suspect(self, call: Call) -> bool:
        """Return whether ``call`` is the suspect that was taken last."""
        return call is self._last_suspect

    @property
    def is_full_batch(self) -> bool:
        """Whether a full batch waits."""
        return self._backlog.instances >= self._size

    def oldest_wait_s(self, now: float) -> float:
        """Return how long the oldest ordinary call has waited; 0 if none waits."""
        return now - min((call.arrived for call in self._backlog), default=now)

    def next_batch(self, now: float) -> list[Call]:
        """Remove and return the next batch; empty if nothing waits, or a batch may still fill."""
        self._is_suspects_turn = not self._is_suspects_turn
        if self._is_suspects_turn:
            return self._next_suspect(now) or self._next_ordinary(now)
        return self._next_ordinary(now) or self._next_suspect(now)

    def full_batch(self, now: float) -> list[Call]:
        """Remove and return a full batch of ordinary calls; empty while suspects wait."""
        if self._suspects or self._backlog.instances < self._size:
            return []
        return self._take(now)

    def fill_left_s(self, now: float) -> float:
        """Return how long the next batch may still wait to fill (``batch_wait_ms``), or 0."""
        if not self._wait_s or not self._backlog or self._backlog.instances >= self._size:
            return 0.0
        return max(0.0, self._wait_s - self.oldest_wait_s(now))

    def drop_late(self, now: float) -> None:
        """Drop settled and late calls."""
        late = self._backlog.prune(now)
        late += [call for call in self._suspects if call.deadline <= now]
        if self._suspects:
            self._suspects = deque(
                call for call in self._suspects if call.deadline > now and not call.is_settled
            )
        if late:
            self._on_late(late)

    def _next_suspect(self, now: float) -> list[Call]:
        while self._suspects:
            suspect = self._suspects.popleft()
            if suspect.is_settled:
                continue
            if suspect.deadline > now:
                self._last_suspect = suspect
                return [suspect]
            self._on_late([suspect])
        return []

    def _next_ordinary(self, now: float) -> list[Call]:
        if not self._backlog or self.fill_left_s(now) > 0:
            return []
        return self._take(now)

    def _take(self, now: float) -> list[Call]:
        batch, late = self._backlog.take(max_instances=self._size, now=now)
        if late:
            self._on_late(late)
        return batch
