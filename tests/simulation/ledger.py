"""The ledger: what was asked and answered, what ran where, and how runners ended."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from modelyard.core.call import Outcome
from modelyard.core.errors import RequestError
from modelyard.core.messages import Answers, Measured
from modelyard.core.names import Target
from modelyard.dispatch.interfaces import CacheUse
from tests.simulation.schedule import Ask

if TYPE_CHECKING:
    from tests.simulation.jobs.clients import Submitted


class Asked:
    """One request of a client, and what became of it."""

    def __init__(self, ask: Ask, *, gateway: str, at: float, is_probe: bool = False) -> None:
        self.ask = ask
        self.gateway = gateway
        self.at = at
        self.is_probe = is_probe
        self.deadline = at + ask.timeout_s
        self.most_s = 0.0  # in which all pieces must have come, of an answer in pieces
        self.pieces = 0  # that it has got
        self.first_piece_at = self.last_piece_at = self.left_at = 0.0
        self.answers = 0
        self.answered_at = 0.0
        self.outcome: Outcome | None = None
        self.target: Target | None = None
        self.cache_use: CacheUse | None = None
        self.has_left = False
        self.is_excused = False  # the gateway that had it was killed

    @property
    def over_at(self) -> float:
        """When it must be answered, at the latest."""
        return max(self.deadline, self.at + self.most_s)

    @property
    def code(self) -> str:
        """What the client saw."""
        if isinstance(self.outcome, RequestError):
            return self.outcome.code
        return "ok" if self.outcome is not None else "none"

    def note(self, outcome: Outcome | None, now: float) -> None:
        """Note an outcome."""
        self.answers += 1
        self.answered_at, self.outcome = now, outcome


class Run(NamedTuple):
    """An instance came to ``predict``."""

    nonce: int
    life: str
    at: float
    is_first_of_batch: bool


class Death(NamedTuple):
    """A runner ended unasked in the middle of a batch of these nonces."""

    nonces: list[int]
    life: str
    cause: str
    at: float


class Ledger:
    """All that is known of one simulation."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.jobs: list[Submitted] = []
        self.by_nonce: dict[int, Asked] = {}  # without what several may have asked
        self.runs: list[Run] = []
        self.deaths: list[Death] = []
        self.submissions: Counter[tuple[str, str]] = Counter()  # by life and request id
        self.problems: list[str] = []
        self.lines: list[str] = []
        self.is_verbose = False

    def problem(self, text: str) -> None:
        """Note that a promise is broken."""
        if text not in self.problems:
            self.problems.append(text)

    def log(self, now: float, text: str) -> None:
        """Keep a line of the log, if somebody will read it."""
        if self.is_verbose:
            self.lines.append(f"{now:10.4f}  {text}")


class GatewayMetrics:
    """What parts report; see ``dispatch.DispatchMetrics`` and ``session.BrokerMetrics``."""

    def __init__(self) -> None:
        self.uses: Counter[str] = Counter()
        self.codes: Counter[str] = Counter()
        self.expirations = 0
        self.events: Counter[str] = Counter()

    def answered(self, target: Target | None, code: str, seconds: float) -> None:
        self.codes[code] += 1

    def asked_cache(self, target: Target, use: CacheUse) -> None:
        self.uses[use] += 1

    def expired(self, target: Target) -> None:
        self.expirations += 1

    def shadowed(self, target: Target, result: str, seconds: float) -> None:
        self.codes[f"shadow {result}"] += 1

    def broker_event(self, event: str) -> None:
        self.events[event] += 1


class PoolCounts:
    """What a pool reports; see ``pool.PoolMetrics``."""

    def __init__(self) -> None:
        self.started = self.batches = self.late = self.expirations = 0
        self.lost: Counter[str] = Counter()

    def batch_started(self, waits_s: list[float]) -> None:
        assert all(wait_s > -1e-9 for wait_s in waits_s), waits_s
        self.started += len(waits_s)

    def batch_answered(self, answers: Answers) -> None:
        self.batches += 1

    def runner_lost(self, cause: str) -> None:
        self.lost[cause] += 1

    def expired(self, count: int) -> None:
        self.expirations += count

    def came_late(self) -> None:
        self.late += 1

    def measured(self, runner: int, measured: Measured) -> None:
        pass

    def runner_ended(self, runner: int) -> None:
        pass
