"""Batches of which nothing is wanted any more, because jobs were cancelled.

The model is told, and a runner that goes on all the same is ended after a while. It is not for
callers who leave: whoever hangs up again and again would have a model loaded again and again.
"""

from __future__ import annotations

from collections.abc import Sequence

from modelyard.core.call import Call
from modelyard.core.errors import Cancelled


def are_cancelled(calls: Sequence[Call]) -> bool:
    """Return whether nobody waits for any of some calls, and jobs among them were cancelled."""
    return all(call.is_settled for call in calls) and any(
        isinstance(call.outcome, Cancelled) for call in calls
    )
