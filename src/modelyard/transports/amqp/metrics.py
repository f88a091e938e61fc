"""What both sides tell of their dealings with the broker."""

from __future__ import annotations

from typing import Protocol


class BrokerMetrics(Protocol):
    """Counts what happens between us and the broker."""

    def broker_event(self, event: str) -> None:
        """Count ``resent`` requests, ``redelivered`` bundles, ``orphan`` replies and the like."""
        ...
