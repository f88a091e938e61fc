"""Accounts: what each caller asks, held against its limits, and what it has used."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, Protocol
from weakref import WeakSet

from modelyard.access.audit import printable
from modelyard.access.keyring import Key, Principal
from modelyard.access.limits import Count, Limit, Meter, Used
from modelyard.core.call import Outcome
from modelyard.core.clock import Clock
from modelyard.core.instances import MANY
from modelyard.core.messages import Request
from modelyard.core.routes import Who

LONGEST_KEPT = 400  # letters of a caller's name: an identity provider makes them as it likes
MOST_ACCOUNTS = 10_000  # of an identity provider there may be any number of callers


class Answered(Protocol):
    """A request that is answered: a ``Call``, and the weight of its model."""

    request: Request
    outcome: Outcome | None
    instance_s: float

    @property
    def entry(self) -> Hashable:
        """What stands for its target."""
        ...

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
        self.key = printable(principal.id, LONGEST_KEPT)
        self.holders: WeakSet[Principal] = WeakSet()
        self.limits: Sequence[Limit] = ()
        self.meters: list[Meter] = []
        self._make = partial(Meter, gateways=gateways, clock=clock, wall_clock=wall_clock)
        self._used: dict[Hashable, _Sums] = {}  # by target
        self._known: tuple[str, list[tuple[str, Used]]] | None = None
        self.follow(principal)

    def follow(self, principal: Principal) -> None:
        """Use what the caller's key says now. Limits that are as they were go on counting; requests
        in flight are not counted by one that is new.
        """
        self.owner = printable(principal.owner, LONGEST_KEPT)
        self.tenant = principal.tenant
        self.who = Who(owner=principal.owner)
        if principal.limits != self.limits:
            before = {meter.limit: meter for meter in self.meters}
            self.limits = principal.limits
            self.meters = [
                self._meter(f"{principal.id}#{number}", limit, before.pop(limit, None))
                for number, limit in enumerate(principal.limits)
            ]
        # The ordinary case: one limit, for all models, that counts requests.
        is_plain = len(self.meters) == 1 and self.meters[0].limit.is_plain
        self._only = self.meters[0] if is_plain else None
        self._by_one = tuple(Entered(meter, 1.0) for meter in self.meters)

    def _meter(self, name: str, limit: Limit, before: Meter | None) -> Meter:
        if before is not None:
            before.name = name
            return before
        meter = self._make(name, limit)
        meter.total = sum(meter.count(used) for used in self._sums())
        if self._known is not None:
            _tell(meter, *self._known)
        return meter

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
        used = self._used.get(call.entry)
        if used is None:
            used = self._used[call.entry] = _Sums(call.request.target.name, call.weight)
        instances = call.instances
        if instances >= MANY:
            instances = 1  # nobody has counted them, but for the cache
        for meter, cost in entered:
            meter.in_flight -= 1
            if not meter.is_exact:  # a route may have led elsewhere than where it was looked up
                is_weighed = meter.limit.count == "weight"
                meter.correct((used.weight if is_weighed else instances) - cost)
        used.requests += 1
        used.instances += instances
        used.model_s += instances * call.instance_s

    def admit(self, entered: Sequence[Entered], model: str, instances: int, weight: float) -> None:
        """Count a request that is let in now and answered later as used already."""
        for meter, cost in entered:
            meter.in_flight -= 1
            if not meter.is_exact:
                meter.correct((weight if meter.limit.count == "weight" else instances) - cost)
        used = self._used.setdefault((model, weight), _Sums(model, weight))
        used.requests += 1
        used.instances += instances

    def add_time(self, model: str, model_s: float, instances: int = 0) -> None:
        """Count the time that a model took for a request that was counted when it was let in, and
        instances that were not.
        """
        used = self._used.setdefault(model, _Sums(model, 0.0))
        used.model_s += model_s
        used.instances += instances

    @property
    def is_idle(self) -> bool:
        """Whether nothing is in flight and all of what was used has been taken."""
        return not (self._used or any(meter.in_flight for meter in self.meters))

    def take_used(self) -> list[Used]:
        """Return what was used since the last call, by model."""
        used = self._sums()
        self._used = {}
        return used

    def _sums(self) -> list[Used]:
        models: dict[str, Used] = {}
        for one in self._used.values():
            before = models.get(one.model) or Used(self.key, self.owner, one.model, 0, 0, 0.0, 0.0)
            models[one.model] = before._replace(
                requests=before.requests + one.requests,
                instances=before.instances + one.instances,
                weight=before.weight + one.weight * one.requests,
                model_s=before.model_s + one.model_s,
            )
        return list(models.values())

    @property
    def has_quota(self) -> bool:
        """Whether it matters what was used before, and elsewhere."""
        return any(meter.limit.has_quota for meter in self.meters)

    def note_kept(self, kept: Iterable[Used]) -> None:
        """Note what the store has now of what was used."""
        kept = list(kept)
        for meter in self.meters:
            meter.keep(sum(map(meter.count, kept)))

    def note_known(self, day: str, known: Iterable[tuple[str, Used]]) -> None:
        """Note what the store has of this month, by day, until ``day``."""
        self._known = day, list(known)
        for meter in self.meters:
            _tell(meter, *self._known)

    def add_used(self, used: Iterable[Used]) -> None:
        """Put back what could not be kept."""
        for one in used:
            weight = one.weight / max(1, one.requests)
            sums = self._used.setdefault((one.model, weight), _Sums(one.model, weight))
            sums.requests += one.requests
            sums.instances += one.instances
            sums.model_s += one.model_s


def _tell(meter: Meter, day: str, known: Sequence[tuple[str, Used]]) -> None:
    meter.know(
        day,
        today=sum(meter.count(used) for at, used in known if at == day),
        month=sum(meter.count(used) for _, used in known),
    )


class _Sums:
    """What was used of one target of a model; ``weight``: of each request."""

    __slots__ = ("instances", "model", "model_s", "requests", "weight")

    def __init__(self, model: str, weight: float) -> None:
        self.model = model
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
        """Return a caller's account, and let the caller keep it."""
        account = self._accounts.get(principal.id)
        if account is None:
            account = self._accounts[principal.id] = self._make(principal)
        else:
            account.follow(principal)
        account.holders.add(principal)
        principal.account = account
        return account

    def owner_of(self, key: str) -> str:
        """Return whose a key is, by its id; empty if it has no account."""
        account = self._accounts.get(key)
        return "" if account is None else account.owner

    def add_time(
        self, key: str, owner: str, model: str, model_s: float, instances: int = 0
    ) -> None:
        """Count the time that a model took for a request of a key, which may have come to another
        gateway, or long ago; and instances that were not counted then.
        """
        account = self._accounts.get(key)
        if account is None:
            account = self._make(Principal(Key(id=key, digest="", owner=owner, scopes=())))
            self._accounts[key] = account
        account.add_time(model, model_s, instances)

    def forget_idle(self) -> None:
        """Forget who has nothing in flight and nothing to be told, if there are too many."""
        if len(self._accounts) > MOST_ACCOUNTS:
            for name, account in list(self._accounts.items()):
                if account.is_idle:
                    del self._accounts[name]
                    for principal in account.holders:  # they come back for another one
                        principal.account = None
