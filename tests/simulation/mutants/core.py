"""Mutants of calls, dispatch and pools."""

from __future__ import annotations

from tests.simulation.mutants.mutant import Edit, Mutant, one

CALL = "core.call:Call"
BACKLOG = "core.batch:Backlog"
DISPATCH = "dispatch.dispatch:Dispatch"
POOL = "pool.pool:Pool"
WAITING = "pool.waiting:Waiting"
RUNNERS = "pool.runners:Runners"
SLOT = "pool.serial:SerialSlot"
OUTCOMES = "pool.outcomes:Outcomes"

CORE: tuple[Mutant, ...] = (
    Mutant(
        "a second answer is let through",
        [
            Edit(f"modelyard.{CALL}.settle", "if self.outcome is not None:", "if False:"),
            Edit(
                f"modelyard.{CALL}.settle",
                "watchers, self._watchers = self._watchers, []",
                "watchers = self._watchers",
            ),
        ],
        seed=1,
    ),
    one("blame is lost", f"{OUTCOMES}.lose", "call.blame, verdict", "_, verdict", seed=1),
    one(
        "the backlog ignores deadlines",
        f"{BACKLOG}.take",
        "elif deadline <= now:",
        "elif False:",
        seed=43,
    ),
    one(
        "suspects run late",
        f"{WAITING}._next_suspect",
        "if suspect.deadline > now:",
        "if True:",
        seed=139,
    ),
    one(
        "what lies before a runner runs late",
        f"{SLOT}.run_next",
        "[call.deadline for call in batch]",
        "[]",
        seed=28,
    ),
    one(
        "nobody is told that the deadline has passed",
        "dispatch.expiry:Expiry._tick",
        'call.settle(DeadlineExceeded("there was no answer by the deadline"))',
        "pass",
        seed=1,
    ),
    one(
        "a slot is leaked after a crash",
        f"{RUNNERS}.took_up",
        "self.idle.append(slot)",
        "self.state == 'recovering' or self.idle.append(slot)",
        seed=1,
    ),
    one(
        "keys do not hold the target",
        "dispatch.catalog:Entry.update",
        "model=model, digest=digest",
        'model="", digest="same"',
        seed=2,
    ),
    one(
        "a flight is never removed",
        "dispatch.flights:Flights.start",
        "del self._flights[place]",
        "pass",
        seed=1,
    ),
    one(
        "identical requests share nothing",
        "dispatch.flights:Flights.find",
        'return self._flights.get((key, "high")) or self._flights.get((key, priority))',
        "return None",
        seed=15,
    ),
    one("in_flight is not decremented", "dispatch.catalog:Entry.left", "-= 1", "-= 0", seed=1),
    one("priority is ignored", f"{BACKLOG}._order", "% NORMAL_EVERY == 0", ">= 0", seed=5),
    one(
        "the limit of a batch is ignored",
        f"{BACKLOG}.take",
        "item.instances <= room",
        "True",
        seed=1,
    ),
    one("what hangs is never ended", f"{RUNNERS}.end_overdue", 'slot.end("hung")', "pass", seed=1),
    one(
        "what lies before a runner is lost with it",
        f"{POOL}.on_lost",
        "in lost.ahead:",
        "in ():",
        seed=2,
    ),
    one(
        "suspects run together",
        f"{OUTCOMES}.lose",
        "self.wait_again(call, is_suspect=True)",
        "self.wait_again(call)",
        seed=1,
    ),
    one(
        "answers are given in another order",
        f"{OUTCOMES}.settle",
        "zip(batch, answers.outcomes, strict=True)",
        "zip(batch, reversed(answers.outcomes), strict=True)",
        seed=1,
    ),
    one(
        "who joined a flight has its starter's deadline",
        f"{DISPATCH}._on_landed",
        "isinstance(outcome, DeadlineExceeded) and has_time_left",
        "False",
        seed=2,
    ),
    one(
        "a batch that waits to fill is forgotten",
        f"{POOL}._feed",
        "self._loop.call_later(left_s, self._wake)",
        "pass",
        seed=1,
    ),
    one(
        "a runner that is free again is not fed",
        f"{POOL}._after_batch",
        "self._wake()",
        "pass",
        seed=1,
    ),
    one(
        "what is late is not counted",
        f"{DISPATCH}._on_settled",
        "self._metrics.expired(call.entry.target)",
        "pass",
        seed=1,
    ),
    one(
        "a pool grows beyond its limit",
        f"{RUNNERS}.scale",
        "len(self.slots) < self._manifest.scaling.max_runners",
        "True",
        seed=1,
    ),
    one(
        "a load that failed is not tried again",
        "pool.slot:Slot.keep_running",
        "await asyncio.wait_for(self._leaving.wait(), backoff_s)",
        "await self._leaving.wait()",
        needs=("load_fails", "no_room", "load_crashes", "load_hangs"),
        seed=1,
    ),
    one(
        "what failed to load is not left until it is loaded",
        f"{RUNNERS}.took_up",
        'self.enter("ready")',
        "pass",
        seed=1,
    ),
)
