"""The ledger of a run: every request's outcome, second by second and fault by fault."""

from __future__ import annotations

import time
from collections import Counter, defaultdict

import msgspec

from tests.chaos.questions import Question
from tests.support.raw import Answer

CALM = "calm"


class Violation(msgspec.Struct, frozen=True):
    """Something that must not be. ``kind``: lost, wrong, duplicate, status, leak, log, …"""

    at_s: float
    kind: str
    what: str
    meanwhile: str
    """The faults that were active."""


class Refusal(msgspec.Struct, frozen=True):
    """A 503 or 504. ``asked``: which faults were active when it was sent."""

    at_s: float
    sent_s: float
    id: str
    door: int
    code: str
    detail: str
    asked: str


class Recovery:
    """How serving came back after a fault was healed. Times are seconds since then.

    ``first_200_s`` tells of each door when its first 200 was there that was no cache hit.
    """

    def __init__(self, doors: int) -> None:
        self._healed = time.monotonic()
        self._doors = doors
        self.first_200_s: dict[int, float] = {}
        self.last_refusal_s = 0.0

    @property
    def is_complete(self) -> bool:
        """Whether every gateway serves."""
        return len(self.first_200_s) == self._doors

    def see(self, door: int, sent: float, answer: Answer) -> None:
        """Look at an answer to a good request."""
        if answer.status == 200:
            if answer.headers.get("x-cache") != "hit":
                self.first_200_s.setdefault(door, round(time.monotonic() - self._healed, 3))
        elif sent >= self._healed:
            self.last_refusal_s = round(time.monotonic() - self._healed, 3)


class Ledger:
    """Notes outcomes. ``meanwhile`` is set to the faults that are active."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.sent: Counter[str] = Counter()
        self.statuses: dict[str, Counter[str]] = defaultdict(Counter)
        self.seconds: dict[int, Counter[str]] = defaultdict(Counter)
        self.by_fault: dict[str, Counter[str]] = defaultdict(Counter)
        self.refusals: list[Refusal] = []
        self.cache: Counter[str] = Counter()
        self.violations: list[Violation] = []
        self.moved = 0
        self.latest_s = 0.0
        self.meanwhile = CALM
        self.recovery: Recovery | None = None
        self._waiting: set[str | None] = set()

    def start(self) -> None:
        """Let the time begin."""
        self.began = time.monotonic()

    @property
    def now_s(self) -> float:
        """Seconds since the run began."""
        return round(time.monotonic() - self.began, 3)

    def count(self, kind: str) -> int:
        """How many violations of a kind there were."""
        return sum(violation.kind == kind for violation in self.violations)

    def violate(self, kind: str, what: str) -> None:
        """Note something that must not be."""
        self.violations.append(Violation(self.now_s, kind, what, self.meanwhile))

    def balance(self) -> None:
        """Note what was sent and has no outcome, now that nothing is under way."""
        for role, sent in self.sent.items():
            if missing := sent - self.statuses[role].total():
                self.violate("lost", f"{missing} of {role} have no outcome")

    def ask(self, question: Question) -> str:
        """Note that a request is sent; gives what it has to be told with when it is answered."""
        self.sent[question.role] += 1
        self._waiting.add(question.id)
        return self.meanwhile

    def lose(self, question: Question, why: str) -> None:
        """Note that a request will never be answered."""
        self._enter(question, "lost")
        self.violate("lost", f"{question.id}: {why}")

    def leave(self, question: Question) -> None:
        """Note that the client did not wait."""
        self._enter(question, "left")

    def answer(
        self, question: Question, answer: Answer, *, door: int, sent: float, asked: str
    ) -> bool:
        """Note an answer; ``asked`` is what ``ask`` gave. Tells whether it is to this question."""
        status = str(answer.status)
        self._enter(question, status)
        overdue_s = time.monotonic() - sent - question.timeout_s
        self.latest_s = max(self.latest_s, round(overdue_s, 3))
        fault = question.fault_of(answer, self._waiting)
        if fault is not None:
            kind, why = fault
            self.violate(kind, f"{question.id} at gateway {door}, sent in {asked}: {why}")
        elif answer.status in (503, 504):
            sent_s = round(sent - self.began, 3)
            code, detail = answer.json["code"], answer.json.get("detail", "")
            self.refusals.append(
                Refusal(self.now_s, sent_s, question.id, door, code, detail, asked)
            )
        if question.role == "good":
            self.by_fault[asked][status] += 1
            if answer.status == 200:
                self.cache[answer.headers.get("x-cache", "")] += 1
            if self.recovery is not None:
                self.recovery.see(door, sent, answer)
        return fault is None or fault[0] == "status"

    def _enter(self, question: Question, outcome: str) -> None:
        self._waiting.discard(question.id)
        self.statuses[question.role][outcome] += 1
        self.seconds[int(self.now_s)][outcome] += 1
