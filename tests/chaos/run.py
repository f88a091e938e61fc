"""One run: load, faults step by step, a quiet moment now and then, and what came of it."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from threading import Event

import msgspec

from tests.chaos.faults import FAULTS
from tests.chaos.fleet import Fleet
from tests.chaos.ledger import CALM, Ledger, Recovery
from tests.chaos.load import Load
from tests.chaos.plan import Step
from tests.chaos.resources import Resources
from tests.support.server import wait_until

WARM_UP_S = 3.0
STEPS_BETWEEN_SAMPLES = 4


class Happened(msgspec.Struct):
    """A step that is over. Times are seconds: from the run's start, and since it was healed."""

    name: str
    victims: list[int]
    at_s: float
    healed_at_s: float
    first_200_s: dict[int, float]
    """By gateway, answers from the cache left out."""
    last_refusal_s: float
    """When the last 503 or 504 came to a good request that was sent after the healing; 0: none."""


class Run:
    """Everything about one run, for the report."""

    def __init__(self, seed: int, folder: Path, tell: Callable[[str], None]) -> None:
        self.seed = seed
        self.ledger = Ledger()
        self.happened: list[Happened] = []
        self.quiet: list[tuple[float, float]] = []
        self.growth: dict[str, float] = {}
        self.logs: list[tuple[str, int, str]] = []
        self.fleet = Fleet(folder, self.ledger)
        self.resources = Resources(self.fleet)
        self._tell = tell

    def carry_out(self, steps: Iterable[Step]) -> None:
        """Start everything, take the steps, end everything."""
        with self.fleet as fleet:
            try:
                self._load(steps)
                self.ledger.balance()
            except Exception as error:  # what has been seen by then is worth a report
                self.ledger.violate("stuck", f"the run broke off: {error!r}")
                self._tell(traceback.format_exc())
            members = [*fleet.past, *fleet.members.items()]
        self.growth = self.resources.judge_memory()
        for name, member in members:
            self._look_for_bugs(name, member.output)
        self.logs = [(name, member.process.pid, member.output) for name, member in members]

    def _load(self, steps: Iterable[Step]) -> None:
        with Load(self.fleet.doors, self.ledger, seed=self.seed) as load:
            self.ledger.start()
            load.resume()
            Event().wait(WARM_UP_S)
            self._sample(load)
            for number, step in enumerate(steps, start=1):
                load.resume()
                self._take(step)
                if number % STEPS_BETWEEN_SAMPLES == 0:
                    self._sample(load)
            if load.is_open:
                self._sample(load)

    def _take(self, step: Step) -> None:
        """Let faults happen, heal them, and see serving come back."""
        ledger = self.ledger
        at_s, ledger.meanwhile = ledger.now_s, step.name
        self._tell(f"{at_s:7.1f} s  {step.name}, {step.hold_s:g} s")
        with ExitStack() as stack:
            for planned in step.faults:
                inject = FAULTS[planned.name].inject
                stack.enter_context(inject(self.fleet, planned.victim))
            Event().wait(step.hold_s)
        recovery = ledger.recovery = Recovery(len(self.fleet.doors))
        healed_at_s, ledger.meanwhile = ledger.now_s, f"after {step.name}"
        try:
            wait_until(lambda: recovery.is_complete, what=f"answers again after {step.name}")
        except AssertionError as error:
            ledger.violate("stuck", str(error))
        Event().wait(step.pause_s)
        self.fleet.replace_the_dead()
        ledger.recovery, ledger.meanwhile = None, CALM
        self.happened.append(
            Happened(
                step.name,
                [planned.victim for planned in step.faults],
                at_s,
                healed_at_s,
                recovery.first_200_s,
                recovery.last_refusal_s,
            )
        )

    def _sample(self, load: Load) -> None:
        began = self.ledger.now_s
        load.pause()
        self.fleet.replace_the_dead()
        self.resources.sample()
        self.quiet.append((began, self.ledger.now_s))

    def _look_for_bugs(self, name: str, output: str) -> None:
        for line in output.splitlines():
            if _is_bug(line):
                self.ledger.violate("log", f"{name}: {line[:500]}")


def _is_bug(line: str) -> bool:
    """Tell whether a line of a log shows a defect. aiormq's tell of connections."""
    try:
        entry = json.loads(line)
    except json.JSONDecodeError:
        return line.lstrip(" +").startswith(("Traceback", "Exception Group Traceback"))
    is_severe = entry["level"] in ("error", "critical") and not entry["logger"].startswith("aiormq")
    return is_severe or entry["logger"] == "asyncio"
