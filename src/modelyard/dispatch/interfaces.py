"""What dispatch depends on: a transport, a cache, metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

from modelyard.core.call import Call
from modelyard.core.messages import Progress
from modelyard.core.names import Target

CacheUse = Literal["hit", "miss", "coalesced", "bypass"]


class Transport(Protocol):
    """Carries calls to a pool."""

    @property
    def is_open(self) -> bool:
        """Whether requests and answers currently get through."""
        ...

    def send(self, call: Call) -> None:
        """Deliver a call, and settle it with its outcome. If somebody else settles it first, it is
        dropped wherever that is still possible.
        """
        ...


class Cache(Protocol):
    """Stores answers."""

    def get(self, key: bytes, then: Callable[[bytes | None], None]) -> None:
        """Call ``then`` with the value of ``key``, or None: at once, or very soon."""
        ...

    def put(self, key: bytes, value: bytes, *, ttl_s: float) -> None:
        """Store ``value``; returns at once."""
        ...


class DispatchMetrics(Protocol):
    """The metrics that dispatch reports."""

    def asked_cache(self, target: Target, use: CacheUse) -> None:
        """A cacheable request was looked up in the cache."""
        ...

    def expired(self, target: Target) -> None:
        """A request's deadline passed."""
        ...

    def shadowed(self, target: Target, result: str, seconds: float) -> None:
        """A copy of a request came to ``same``, ``different``, ``failed`` or ``dropped``."""
        ...


OnProgress = Callable[[str, Progress], None]
"""Told how far a model is with a request, by its id."""


def tell_nobody(request_id: str, progress: Progress) -> None:
    """Do nothing: where nobody wants to know how far models are."""
