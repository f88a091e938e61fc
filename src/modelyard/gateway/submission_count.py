"""Counts a request that becomes a job against the limits of its caller."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from modelyard.access.accounts import Account, Entered
from modelyard.access.limits import Count
from modelyard.core.instances import MANY, count_instances
from modelyard.core.messages import Form
from modelyard.dispatch.dispatch import Ask
from modelyard.dispatch.entry import Entry


class SubmissionCount:
    """One submission in the account of its caller."""

    def __init__(
        self, account: Account | None, entry: Entry, input_: memoryview, form: Form
    ) -> None:
        self._account = account
        self._entry = entry
        self._input, self._form = input_, form
        self._entered: Sequence[Entered] = ()

    def enter(self, ask: Ask, cost: Callable[[Count], float]) -> None:
        """Count it; raises a RateLimited if that is too much."""
        if self._account is not None and self._account.meters:
            self._entered = self._account.enter(ask.model_name, cost)

    def leave(self, *, is_kept: bool) -> None:
        """Count it as used, or not at all."""
        account, entry = self._account, self._entry
        if account is None:
            return
        if not is_kept:
            account.undo(self._entered)
            return
        known = entry.announcement
        counted = count_instances(self._input, self._form)
        instances = counted if counted < MANY else known.max_batch_size
        account.admit(self._entered, entry.target.name, instances, known.limits.weight)
