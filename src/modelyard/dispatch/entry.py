"""One target as dispatch knows it, so that a request finds everything with one look-up."""

from __future__ import annotations

import math

from modelyard.core.errors import ModelNotReady, RequestError
from modelyard.core.fingerprint import KeySpace
from modelyard.core.messages import SERVING, Announcement
from modelyard.core.routes import Shadow, Who
from modelyard.core.trail import Trail, trail_of
from modelyard.dispatch.guards import Guarded
from modelyard.dispatch.router import Routed

LONGEST_WAIT_S = 60
RATE_OVER_S = 1.0
CIRCLE = "models call each other in a circle: %s; take one of them out of [calls]"


class Entry:
    """One target as dispatch knows it."""

    __slots__ = (
        "_measured",
        "_rate",
        "announcement",
        "answered",
        "calls",
        "circle",
        "guarded",
        "in_flight",
        "is_serving",
        "is_special",
        "keys",
        "one_batch",
        "refused",
        "shadow",
        "share",
        "target",
    )

    def __init__(self, announcement: Announcement) -> None:
        self.target = announcement.target
        self.in_flight = self.answered = 0
        self._measured: tuple[float, int] | None = None  # when, and how many were answered then
        self._rate = 0.0  # answers per second
        self.refused = 0  # requests, since too many were in flight
        self.shadow: Shadow | None = None  # which gets copies
        self.guarded: Guarded | None = None  # looks at its answers
        self.share = 0.0  # of the requests that name no version
        self.calls: tuple[str, ...] = ()  # models that it may call
        self.circle = ""  # of calls that it is in: then it is not asked
        self.keys: KeySpace | None = None
        self.update(announcement)

    def update(self, announcement: Announcement) -> None:
        """Replace the announcement."""
        self.announcement = announcement
        self.calls = announcement.calls
        self._see_special()
        self.is_serving = announcement.state in SERVING and not self.circle
        # Instances that run at once when all runners are busy.
        at_once = max(1, announcement.runners_ready) * max(1, announcement.concurrency)
        self.one_batch = announcement.max_batch_size * at_once
        digest = announcement.digest if announcement.cache_ttl_s > 0 else ""
        if digest != (self.keys.digest if self.keys else ""):
            model = str(self.target)
            self.keys = KeySpace(model=model, digest=digest) if digest else None

    def follow(self, routed: Routed | None) -> None:
        """Do what a route says from now on: copy to a shadow, be guarded."""
        version = self.target.version
        self.shadow = None if routed is None else routed.route.shadow
        self.guarded = None if routed is None else routed.guarded.get(version)
        self._see_special()

    def _see_special(self) -> None:
        is_followed = self.shadow is not None or self.guarded is not None
        self.is_special = bool(self.calls) or is_followed

    def trail_of(self, who: Who) -> Trail | None:
        """Return what the worker has to know of the way of a request; None if it needs nothing.

        Raises:
            CallsTooDeep: See ``core/trail.py``.
        """
        if self.calls:
            return trail_of(self.target.name, chain=who.chain, trace=who.trace, since=who.since)
        return Trail("", who.trace, who.since) if who.since else None

    def is_model_of(self, keys: KeySpace | None, digest: str | None) -> bool:
        """Return whether an answer of the model folder with this digest is one that ``keys`` are
        for. The model may have changed in the meantime, and during a rollout workers of both
        releases answer. ``digest``: None if the transport does not say it.
        """
        if keys is None or keys is not self.keys:
            return False
        return digest is None or digest == keys.digest

    def left(self, _: object) -> None:
        """Note that a request is no longer in flight."""
        self.in_flight -= 1
        self.answered += 1

    def wait_s(self, now: float) -> int:
        """Return in how many seconds what is in flight will be answered, at the rate of late."""
        since, before = self._measured or (now, self.answered)
        if self._measured is None or now - since > RATE_OVER_S:
            if now > since:
                self._rate = (self.answered - before) / (now - since)
            self._measured = now, self.answered
        wait_s = self.in_flight / self._rate if self._rate else 0.0
        return max(1, min(LONGEST_WAIT_S, math.ceil(wait_s)))

    @property
    def is_open(self) -> bool:
        """Whether requests may be sent. One for a sleeping target waits for a worker."""
        return self.is_serving or (self.announcement.state == "asleep" and not self.circle)

    @property
    def has_room(self) -> bool:
        """Whether one more request may be sent now."""
        return self.is_open and self.in_flight < self.announcement.limits.max_in_flight

    @property
    def gives_no_pieces(self) -> bool:
        """Whether it is known that its answers cannot be had in pieces."""
        return self.announcement.schema is not None and not self.announcement.gives_pieces

    def why_not(self) -> RequestError:
        """Return the error for a request that comes while the target does not serve."""
        state, reason = self.announcement.state, self.announcement.reason
        if self.circle:
            state, reason = "failed", CIRCLE % self.circle
        return ModelNotReady(f"{self.target} is {state}" + (f": {reason}" if reason else ""))
