"""A gateway's view of one target: sums over the statuses of its workers, updated at a constant cost
per status. No I/O, no clock of its own.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from modelyard.core.messages import SERVING, Announcement, Member, State
from modelyard.core.names import Target
from modelyard.transports.amqp.envelope import Card, Status

_BEST_FIRST: tuple[State, ...] = ("ready", "recovering", "starting", "failed", "stopped", "asleep")


class Heard(NamedTuple):
    """A worker's last status, and when it was received."""

    at: float
    status: Status


class Known:
    """One target.

    Attributes:
        card: The target's card; None until the first one is received.
        card_id: Id of the card.
        queued: Bundles in the target's queues, as last reported.
        empty_since: Since when the target has no worker; None while it has one.
    """

    def __init__(self, target: Target, now: float) -> None:
        self.target = target
        self.card: Card | None = None
        self.card_id = ""
        self.queued: int | None = None
        self.empty_since: float | None = now
        self._workers: dict[str, Heard] = {}
        self._states: Counter[State] = Counter()
        self._cards: Counter[str] = Counter()  # of serving workers
        self._runners = self._ready = 0
        self._instance_s, self._paces = 0.0, 0  # summed over the workers that know, and these
        self._last_instance_s = 0.0

    @property
    def workers(self) -> int:
        """Number of workers, in any state."""
        return len(self._workers)

    @property
    def state(self) -> State:
        """The best of its workers'; without any, whether it could be woken. A target that sleeps
        does so until a worker has loaded the model: requests wait.
        """
        may_sleep = self.card is not None and self.card.scale_to_zero
        for state in _BEST_FIRST:
            if self._states[state]:
                return "asleep" if state == "starting" and may_sleep else state
        return "asleep" if may_sleep else "stopped"

    @property
    def instance_s(self) -> float:
        """What an instance takes in a runner: the mean over the workers that know. Once they are
        gone, what they said last.
        """
        if self._paces:
            self._last_instance_s = max(0.0, self._instance_s / self._paces)
        return self._last_instance_s

    @property
    def members(self) -> list[Member]:
        """The workers, the serving ones first."""
        return sorted(
            (
                Member(
                    name=status.worker,
                    host=status.host,
                    state=status.state,
                    reason=status.reason,
                    runners=status.runners,
                    runners_ready=status.runners_ready,
                )
                for _, status in self._workers.values()
            ),
            key=lambda member: (_BEST_FIRST.index(member.state), member.name),
        )

    def hear(self, status: Status, now: float) -> bool:
        """Record a worker's status; returns whether anything but its load has changed."""
        before = self._workers.get(status.worker)
        if status.is_last:
            return self.drop(status.worker, now)
        self._workers[status.worker] = Heard(now, status)
        self.queued = status.queued
        if before is not None:
            self._count(before.status, -1)
        self._count(status, 1)
        self.empty_since = None
        return before is None or _is_changed(before.status, status)

    def drop(self, worker: str, now: float) -> bool:
        """Forget a worker; returns whether it was known."""
        heard = self._workers.pop(worker, None)
        if heard is None:
            return False
        self._last_instance_s = self.instance_s
        self._count(heard.status, -1)
        if not self._workers:
            self.queued, self.empty_since = None, now
        return True

    def drop_silent(self, since: float, now: float) -> bool:
        """Forget the workers last heard before ``since``; returns whether there were any."""
        silent = [name for name, heard in self._workers.items() if heard.at < since]
        for name in silent:
            self.drop(name, now)
        return bool(silent)

    def excuse(self, now: float) -> None:
        """Restart the timeout of all workers, because they could not be heard."""
        for name, heard in self._workers.items():
            self._workers[name] = heard._replace(at=now)

    def newer_card(self) -> Status | None:
        """Return the status of a worker whose card should replace the current one, if any.

        The current card stays as long as a serving worker has it: during a rollout the statuses of
        both releases alternate.
        """
        if self._cards[self.card_id] or not self._workers:
            return None
        best = min(
            (status for _, status in self._workers.values()),
            key=lambda status: _BEST_FIRST.index(status.state),
        )
        return None if best.card == self.card_id else best

    def announcement(self) -> Announcement | None:
        """Return the announcement for the catalog; None before the first card."""
        card, state = self.card, self.state
        if card is None:
            return None
        return Announcement(
            target=self.target,
            state=state,
            description=card.description,
            limits=card.limits,
            cache_ttl_s=card.cache_ttl_s,
            max_batch_size=card.max_batch_size,
            runners=self._runners,
            runners_ready=self._ready,
            digest=card.digest,
            schema=card.schema,
            reason=self._reason(state),
            scale_to_zero=card.scale_to_zero,
            is_default=card.is_default,
            target_wait_s=card.target_wait_s,
            concurrency=card.concurrency,
            workers=sum(self._states[serving] for serving in SERVING),
            calls=card.calls,
            takes_errands=card.takes_errands,
        )

    def _reason(self, state: State) -> str:
        if not self._workers:
            return "no worker is up"
        if state == "ready":
            return ""
        reasons = (status.reason for _, status in self._workers.values() if status.state == state)
        return next((reason for reason in reasons if reason), "")

    def _count(self, status: Status, by: int) -> None:
        self._states[status.state] += by
        self._runners += by * status.runners
        self._ready += by * status.runners_ready
        if status.state in SERVING:
            self._cards[status.card] += by
        if status.instance_s:
            self._instance_s += by * status.instance_s
            self._paces += by


def _is_changed(before: Status, after: Status) -> bool:
    return (before.state, before.reason, before.runners, before.runners_ready, before.card) != (
        after.state,
        after.reason,
        after.runners,
        after.runners_ready,
        after.card,
    )
