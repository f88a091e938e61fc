"""How much a caller may ask: limits, and the meters that count against them.

A limit holds for all of a caller's requests, or for those to some models. A gateway decides by
what it knows itself. Of a rate, and of a number in flight, each of several gateways has the part
that it has of the demand (``shares.py``); of a day and a month, the store has the sum
(``usage.py``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

import msgspec

from modelyard.access.scopes import compile_patterns
from modelyard.core.clock import Clock
from modelyard.core.errors import RateLimited

Count = Literal["requests", "instances", "weight"]
AMOUNTS = ("rate", "burst", "in_flight", "per_day", "per_month")

LEAST_SHARE = 0.1  # of an even one: what a gateway may always use of a limit
_PATTERN = re.compile(r"[a-z0-9*][a-z0-9*._-]*")
_SMOOTHING = 0.5  # how much of the demand is of the last interval


class Limit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One limit of a caller.

    Attributes:
        models: For which models it holds: a pattern, as in scopes.
        count: What is counted: requests, their instances, or the ``weight`` of the model in its
            ``model.toml``, once for each request.
        rate: So many per second, on the average.
        burst: So many at once, after a pause; as many as in a second unless given.
        in_flight: Requests that are not answered yet.
        per_day: So many in a day, which begins at 0:00 UTC.
        per_month: So many in a calendar month.
    """

    models: str = "*"
    count: Count = "requests"
    rate: float | None = None
    burst: float | None = None
    in_flight: int | None = None
    per_day: float | None = None
    per_month: float | None = None

    def __post_init__(self) -> None:
        if _PATTERN.fullmatch(self.models) is None:
            raise ValueError(f"{self.models!r} is not a pattern of models' names")
        given = (self.rate, self.burst, self.in_flight, self.per_day, self.per_month)
        if any(value is not None and not 0 < value < math.inf for value in given):
            raise ValueError("limits are positive numbers")
        if all(value is None for value in given):
            raise ValueError("a limit says rate, in_flight, per_day or per_month")
        if self.burst is not None and self.rate is None:
            raise ValueError("burst needs rate")

    @property
    def is_plain(self) -> bool:
        """Whether it counts all requests, each as one."""
        return self.models == "*" and self.count == "requests"

    @property
    def has_quota(self) -> bool:
        """Whether it needs to know what was used before, and elsewhere."""
        return self.per_day is not None or self.per_month is not None


class Used(NamedTuple):
    """What one caller has used of one model.

    Attributes:
        key: The id of the key.
        owner: Whose it is.
        model: Name of the model.
        requests: That were answered.
        instances: In them.
        weight: Sum of the model's ``weight`` over them.
        model_s: Seconds of the model's time.
    """

    key: str
    owner: str
    model: str
    requests: int
    instances: int
    weight: float
    model_s: float


class Meter:
    """Counts what one caller asks against one limit.

    Args:
        name: What names it at other gateways: the caller, and which of its limits it is.
        limit: The limit.
        gateways: How many share it, as long as nobody tells.
        clock: A monotonic clock.
        wall_clock: Unix time, in seconds.

    Attributes:
        is_exact: Whether what a request counts for is known when it comes.
        in_flight: Requests that are not answered yet.
        total: What was counted since the start.
    """

    def __init__(
        self, name: str, limit: Limit, *, gateways: int, clock: Clock, wall_clock: Clock
    ) -> None:
        self.name = name
        self.limit = limit
        self.is_exact = limit.count == "requests"
        self.in_flight = 0
        self.total = 0.0
        self._is_meant = compile_patterns([limit.models]).fullmatch
        self._clock = clock
        self._wall_clock = wall_clock
        self._rate = limit.rate or 0.0
        self._burst = float(limit.burst or max(1.0, self._rate))
        self._most_in_flight: float = limit.in_flight or math.inf
        self._tokens = self._burst
        self._set_share(1.0 / gateways)
        self._filled = self._measured = clock()
        self._refused = self._demand = self._total_then = 0.0
        self._peak = 0  # of requests in flight, with one that was refused
        self._kept = 0.0  # of the total: what is in the store
        self.know(day_of(wall_clock()), today=0.0, month=0.0)

    def matches(self, model: str) -> bool:
        """Return whether it counts requests to this model."""
        return self._is_meant(model) is not None

    def enter(self, cost: float) -> None:
        """Count a request.

        Raises:
            RateLimited: It is one too many; says when to try again.
        """
        in_flight = self.in_flight
        if in_flight >= self._peak:
            self._peak = in_flight + 1
        if in_flight >= self._most_in_flight:
            raise self._has_too_many()
        total = self.total + cost
        if total > self._quota_end and total > self._quota_end_now():
            raise self._has_used_up(total)
        if self._rate:
            now = self._clock()
            tokens = self._tokens + (now - self._filled) * self._speed
            self._filled = now
            tokens = min(tokens, self._size)
            # More than fits at once is let in when all of that has grown, and is paid for later.
            if tokens < cost and tokens < self._size:
                self._tokens = tokens
                self._refused += cost
                raise self._is_too_fast(cost)
            self._tokens = tokens - cost
        self.total = total
        self.in_flight = in_flight + 1

    def correct(self, more: float) -> None:
        """Pay for what a request came to beyond what it was let in for; less than nothing is given
        back.
        """
        self.total += more
        self._tokens -= more

    def undo(self, cost: float) -> None:
        """Take back a request that was refused after it was let in."""
        self.in_flight -= 1
        self.total -= cost
        self._tokens += cost

    def count(self, used: Used) -> float:
        """Return what of it counts here."""
        return getattr(used, self.limit.count) if self.matches(used.model) else 0.0

    def keep(self, kept: float) -> None:
        """Note how much of what was counted here is in the store now. What was asked before there
        was this limit is not counted here.
        """
        self._kept = min(self._kept + kept, self.total)
        self._today += kept
        self._month += kept

    def know(self, day: str, *, today: float, month: float) -> None:
        """Note what the store has of a day, as ``2026-01-31``, and of its month until then, from
        all gateways.
        """
        self._day, self._today, self._month = day, today, month
        limit = self.limit
        left = min(
            math.inf if limit.per_day is None else limit.per_day - today,
            math.inf if limit.per_month is None else limit.per_month - month,
        )
        self._quota_end = self._kept + left

    def _quota_end_now(self) -> float:
        """Return at which total the quota ends: a new day has a new one, whatever the store knows
        yet.
        """
        day = day_of(self._wall_clock())
        if day > self._day:
            is_same_month = day[:7] == self._day[:7]
            self.know(day, today=0.0, month=self._month if is_same_month else 0.0)
        return self._quota_end

    # What gateways tell each other.

    def measure(self) -> tuple[float, float]:
        """Return the demand here: cost per second, and requests in flight at a time; refused ones
        are part of it.
        """
        now = self._clock()
        if (passed_s := now - self._measured) > 0:
            asked = max(0.0, self.total - self._total_then) + self._refused
            self._demand += _SMOOTHING * (asked / passed_s - self._demand)
            self._refused, self._total_then, self._measured = 0.0, self.total, now
        peak, self._peak = self._peak, self.in_flight
        return self._demand, float(peak)

    def share(self, others: tuple[float, float], wanted: float, *, gateways: int) -> None:
        """Set what this gateway may use, from the demand at the others."""
        demand, in_flight = others
        if self.limit.rate is not None:
            now = self._clock()
            self._tokens += (now - self._filled) * self._speed
            self._filled = now
            self._set_share(_share(self._rate, self._demand, demand, gateways))
        if self.limit.in_flight is not None:
            part = _share(self.limit.in_flight, wanted, in_flight, gateways)
            self._most_in_flight = max(1, round(self.limit.in_flight * part))

    def _set_share(self, share: float) -> None:
        self._speed = self._rate * share
        self._size = max(1.0, self._burst * share)
        self._tokens = min(self._tokens, self._size)

    def _has_too_many(self) -> RateLimited:
        policy = f'"in-flight";q={self.limit.in_flight};qu="concurrent-requests"'
        detail = f"the key has {self.in_flight} requests in flight, and may have no more"
        return RateLimited(detail, retry_after_s=1, policy=policy)

    def _is_too_fast(self, cost: float) -> RateLimited:
        missing = min(cost, self._size) - self._tokens
        wait_s = math.ceil(missing / self._speed)
        detail = f"the key may ask {self._rate:g} {self._unit}per second"
        window_s = max(1, round(self._burst / self._rate))
        policy = f'"rate";q={max(1, round(self._burst))};w={window_s}'
        return RateLimited(detail, retry_after_s=max(1, wait_s), policy=policy)

    def _has_used_up(self, total: float) -> RateLimited:
        limit = self.limit
        now = datetime.fromtimestamp(self._wall_clock(), UTC)
        day = now.replace(hour=0, minute=0, second=0, microsecond=0)
        most, what, end = limit.per_day, "day", day + timedelta(days=1)
        unknown = total - self._kept
        if limit.per_month is not None and self._month + unknown > limit.per_month:
            most, what = limit.per_month, "month"
            end = (day.replace(day=28) + timedelta(days=4)).replace(day=1)
        left = max(0, math.floor(self._quota_end - self.total))
        detail = f"the key may ask {most:g} {self._unit}per {what}, of which {left} are left"
        left_s = math.ceil((end - now).total_seconds())
        policy = f'"{what}";q={round(most or 0)}'
        return RateLimited(detail, retry_after_s=left_s, policy=policy, left=left)

    @property
    def _unit(self) -> str:
        return "times " if self.limit.count == "requests" else f"{self.limit.count} "


def check_quotas(limits: Iterable[Limit], *, has_book: bool) -> None:
    """See that usage is kept if a limit needs that.

    Raises:
        ValueError: It is not.
    """
    if not has_book and any(limit.has_quota for limit in limits):
        raise ValueError("per_day and per_month need the store: set database_url")


def day_of(moment: float) -> str:
    """Return the day of UTC, as ``2026-01-31``, of a Unix time in seconds."""
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d}"


def _share(limit: float, own: float, others: float, gateways: int) -> float:
    """Return the part of a limit that one gateway may use: what the others leave of it, and if
    together they want more, the part that it has of the demand.
    """
    total = own + others
    part = 1 - others / limit if total <= limit else own / total
    return max(part, LEAST_SHARE / gateways)
