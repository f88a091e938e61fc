"""What a client may see: the table of docs/reliability.md, by kind of fault."""

from __future__ import annotations

from tests.simulation.schedule import FaultKind

GRACE_S = 0.15
"""So late may an answer come: two ticks of the expiry, and a far cache that is waited for."""

ROOMY_S = 10.0
"""A request with so much time is late only where its faults say so."""

SILENT = {"unavailable", "deadline_exceeded"}
_NO_CAPACITY = {"model_not_ready"}
ALLOWED: dict[FaultKind, set[str]] = {
    # The rows of docs/reliability.md: what a request with a roomy deadline may get beside its
    # answer, while the fault lasts and until all have come back.
    "kill_runner": set(),
    "load_fails": _NO_CAPACITY | {"deadline_exceeded"},
    "load_crashes": _NO_CAPACITY | {"deadline_exceeded"},
    "load_hangs": _NO_CAPACITY | {"deadline_exceeded"},
    "no_room": _NO_CAPACITY | {"deadline_exceeded"},
    "kill_worker": set(),
    "freeze_worker": set(),
    "stop_worker": _NO_CAPACITY,  # if it is the only one
    "add_worker": set(),
    "sleep": set(),
    "kill_gateway": set(),
    "freeze_gateway": SILENT,
    "stop_gateway": set(),
    "restart_broker": set(),
    "crash_broker": set(),
    "hang_broker": {"unavailable"},
    "alarm": {"unavailable"},
    "delete_queue": _NO_CAPACITY,
    "delete_own_queue": set(),
    "unbind": set(),
    "full_queue": {"overloaded"},
    "junk": set(),
    "reset": set(),
    "cut": set(),
    "stall": {"unavailable"},
    "silent": SILENT,
    "half_open": SILENT,
    "refuse": set(),
    "damage": SILENT | _NO_CAPACITY | {"malformed"},
    "cache_slow": set(),
    "cache_away": set(),
    "cache_full": set(),
    "cache_damaged": set(),
    "database_away": set(),
    "database_dumb": set(),
}
QUIET_FAULTS: frozenset[FaultKind] = frozenset(
    ("junk", "add_worker", "cache_slow", "cache_away", "cache_full", "cache_damaged")
)
"""Those that end no process, no session and no queue."""

SILENT_FAULTS = QUIET_FAULTS - {"junk", "add_worker"}
"""Those of them that neither have requests sent again nor bring workers who know nothing yet."""

OF_ACT: dict[str, set[str]] = {
    "": {"ok"},
    "raise": {"model_failed"},
    "refuse": {"invalid_input"},
    "exit": {"model_crashed"},
    "oom": {"model_crashed"},
    "hang": {"deadline_exceeded"},
}
