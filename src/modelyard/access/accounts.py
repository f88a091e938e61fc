"""Accounts: what each caller asks, held against its limits, and what it has used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from modelyard.access.keyring import Principal
from modelyard.access.limits import Count, Meter, Used
from modelyard.core.call import Outcome
from modelyard.core.clock import Clock
from modelyard.core.instances import MANY
from modelyard.core.messages import Request
from modelyard.core.routes import Who

MOST_ACCOUNTS = 10_000  # of an identity provider there may be any number of callers


class Answered(Protocol):
    """A request that is answered: a ``Call``, and the weight of its model."""

    request: Request
    outcome: Outcome | None
    instance_s: float

    @property
    def instances(self) -> int:
        """How many there were."""
        ...

    @property
    def weight(self) -> float:
        """What it counts for, as the model says."""
        ...


class Entered(NamedTuple):
    """What a request counts for against one limit."""

    meter: Meter
    cost: float


class Account:
    """One caller's account.

    Args:
        principal: The caller.
        gateways: How many share its limits, as long as nobody tells.
        clock: A monotonic clock.
        wall_clock: Unix time, in seconds.
    """

    def __init__(
        self, principal: Principal, *, gateways: int, clock: Clock, wall_clock: Clock
    ) -> None:
        self.key, self.owner, self.tenant = principal.id, principal.owner, principal.tenant
        self.who = Who(owner=principal.owner)
        self.limits = principal.limits
        self.meters = [
            Meter(
                f"{principal.id}#{number}",
                limit,
                gateways=gateways,
                clock=clock,
                wall_clock=wall_clock,
            )
            for number, limit in enumerate(principal.limits)
        ]
        # The ordinary case: one limit, for all models, that counts requests.
        is_plain = len(self.meters) == 1 and self.meters[0].limit.is_plain
        self._only = self.meters[0] if is_plain else None
        self._by_one = tuple(Entered(meter, 1.0) for meter in self.meters)
        self._used: dict[str, _Sums] = {}

    def enter(self, model: str, cost: Callable[[Count], float]) -> Sequence[Entered]:
        """Count a request to a model; returns where.

        ``cost``: what the request counts for.

        Raises:
            RateLimited: It is one too many.
        """
        if self._only is not None:
            self._only.enter(1.0)
            return self._by_one
        entered: list[Entered] = []
        try:
            for meter in self.meters:
                if meter.matches(model):
                    one = Entered(meter, cost(meter.limit.count))
                    meter.enter(one.cost)
                    entered.append(one)
        except BaseException:
            self.undo(entered)
            raise
        return entered

    def undo(self, entered: Sequence[Entered]) -> None:
        """Take back a request that was refused."""
        for meter, cost in entered:
            meter.undo(cost)

    def leave(self, entered: Sequence[Entered], call: Answered) -> None:
        """Count a request that is answered."""
        if not isinstance(call.outcome, bytes):
            for meter, cost in entered:
                meter.in_flight -= 1
                meter.total -= cost
            return
        instances = call.instances
        if instances >= MANY:
            instances = 1  # nobody has counted them, but for the cache
        for meter, cost in entered:
            meter.in_flight -= 1
            if meter.counts_instances:
                meter.correct(instances - cost)
        model = call.request.target.name
        used = self._used.get(model)
        if used is None:
            used = self._used[model] = _Sums(call.weight)
        used.requests += 1
        used.instances += instances
        used.model_s += instances * call.instance_s

    @property
    def is_idle(self) -> bool:
        """Whether nothing is in flight and all of what was used has been taken."""
        return not (self._used or any(meter.in_flight for meter in self.meters))

    def take_used(self) -> Iterator[Used]:
        """Return what was used since the last call."""
        used, self._used = self._used, {}
        for model, one in used.items():
            counts = one.requests, one.instances, one.weight * one.requests, one.model_s
            yield Used(self.key, self.owner, model, *counts)

    @property
    def has_quota(self) -> bool:
        """Whether it matters what was used before, and elsewhere."""
        return any(meter.limit.has_quota for meter in self.meters)

    def note_kept(self, kept: list[Used], day: str, known: Iterable[tuple[str, Used]]) -> None:
        """Note what is kept of what was used, and what is known of this month, by day."""
        known = list(known)
        for meter in self.meters:
            meter.know(
                kept=sum(meter.count(one) for one in kept),
                today=sum(meter.count(used) for at, used in known if at == day),
                month=sum(meter.count(used) for _, used in known),
            )

    def add_used(self, used: Iterable[Used]) -> None:
        """Put back what could not be kept."""
        for one in used:
            sums = self._used.setdefault(one.model, _Sums(one.weight / one.requests))
            sums.requests += one.requests
            sums.instances += one.instances
            sums.model_s += one.model_s


class _Sums:
    """What was used of one model; ``weight``: of each request."""

    __slots__ = ("instances", "model_s", "requests", "weight")

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.requests = self.instances = 0
        self.model_s = 0.0


class Accounts:
    """The accounts of all callers that came lately.

    Args:
        gateways: See ``Account``.
        clock: A monotonic clock.
        wall_clock: Unix time, in seconds.
    """

    def __init__(self, *, gateways: int, clock: Clock, wall_clock: Clock) -> None:
        self._make = partial(Account, gateways=gateways, clock=clock, wall_clock=wall_clock)
        self._accounts: dict[str, Account] = {}

    def __iter__(self) -> Iterator[Account]:
        yield from list(self._accounts.values())

    def of(self, principal: Principal) -> Account:
        """Return a caller's account: another one if its limits have changed."""
        account = self._accounts.get(principal.id)
        if account is None or account.limits != principal.limits:
            used = [] if account is None else list(account.take_used())
            account = self._accounts[principal.id] = self._make(principal)
            account.add_used(used)
        return account

    def forget_idle(self) -> None:
        """Forget who has nothing in flight and nothing to be told, if there are too many."""
        if len(self._accounts) > MOST_ACCOUNTS:
            for name, account in list(self._accounts.items()):
                if account.is_idle:
                    del self._accounts[name]
