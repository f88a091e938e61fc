"""Runs all checks at once, each for a limited time, and puts what they find in order."""

from __future__ import annotations

import queue
import threading
import time

from modelyard.doctor.configured import check_files, check_settings
from modelyard.doctor.finding import Case, Check, Finding, Veil
from modelyard.doctor.gateways import check_gateways
from modelyard.doctor.machine import check_machine
from modelyard.doctor.services import (
    check_artefacts,
    check_broker,
    check_database,
    check_redis,
)

PATIENCE_S = 30.0  # of a check; what it waits for has shorter ones
ORDER = (
    *("settings", "files", "broker", "redis", "database", "artefacts"),
    *("members", "clocks", "prometheus", "limits"),
)


def examine(case: Case) -> list[Finding]:
    """Return what all checks find, in the order of ``ORDER``, without secrets."""
    checks: dict[str, Check] = {"settings": check_settings, "files": check_files}
    if case.role != "serve":
        checks["broker"] = check_broker
    if case.role == "gateway":
        checks["redis"] = check_redis
    checks |= {
        "database": check_database,
        "artefacts": check_artefacts,
        "members": check_gateways,
        "limits": check_machine,
    }
    veil, found, names = Veil(case.settings), _run(checks, case), list(checks)
    # Whichever has ended first: what several find of one thing, as clocks, has an order, too.
    found.sort(key=lambda one: (ORDER.index(one[1].check), names.index(one[0])))
    return [veil.over(finding) for _, finding in found]


def _run(checks: dict[str, Check], case: Case) -> list[tuple[str, Finding]]:
    """Run each check in a thread; returns what each finds, by its name. Nobody waits for one that
    goes on after ``PATIENCE_S``.
    """
    said: queue.SimpleQueue[tuple[str, Finding | None]] = queue.SimpleQueue()

    def run(name: str, check: Check) -> None:
        try:
            for finding in check(case):
                said.put((name, finding))
        except Exception as error:  # the others' findings count all the same
            what = f"this check failed itself: {type(error).__name__}: {error}"
            said.put((name, Finding(name, "fail", what, "please report it")))
        said.put((name, None))  # it has ended

    for name, check in checks.items():
        threading.Thread(target=run, args=(name, check), daemon=True).start()
    until = time.monotonic() + PATIENCE_S
    waiting, found = set(checks), list[tuple[str, Finding]]()
    while waiting:
        try:
            name, finding = said.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            break
        if finding is None:
            waiting.discard(name)
        else:
            found.append((name, finding))
    what = f"no answer within {PATIENCE_S:.0f} s"
    late = [(name, Finding(name, "fail", what, "see what holds it up")) for name in waiting]
    return found + late
