"""What is checked of jobs: as it happens, and once all are at their ends."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from modelyard.jobs.job import Leased
from modelyard.jobs.pump import LEASE_S, RENEW_S
from modelyard.pool.interfaces import CANCEL_GRACE_S
from tests.simulation.allowed import QUIET_FAULTS
from tests.simulation.faults import LOADS
from tests.simulation.jobs.clients import Submitted, right_answer
from tests.simulation.jobs.database import ENDS, Step
from tests.simulation.jobs.office import EXPIRES_S, MAX_ATTEMPTS
from tests.simulation.part import EPOCH
from tests.simulation.schedule import FaultKind

if TYPE_CHECKING:
    from tests.simulation.pooled import Pooled
    from tests.simulation.world import World

DATABASE_FAULTS: set[FaultKind] = {"database_away", "database_dumb"}
LOSE_LEASES = {"kill_gateway", "freeze_gateway", *DATABASE_FAULTS}
"""Faults under which a lease may run out."""

TELL_ALL_THE_SAME = QUIET_FAULTS | DATABASE_FAULTS | {*LOADS, "kill_runner"}
"""Faults under which a worker is told that a job was cancelled, if later."""

TELL_S = RENEW_S + 1.0  # until a gateway knows that a job that it runs was cancelled elsewhere


class JobChecks:
    """What is checked as it happens."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._attempts: Counter[str] = Counter()

    def look_at(self, pooled: Pooled) -> None:
        """See that no runner goes on for long with what was cancelled."""
        world = self._world
        away = [s.until for s in world.faults if s.fault.kind in DATABASE_FAULTS]
        lossy = [s.until for s in world.faults if s.fault.kind not in TELL_ALL_THE_SAME]
        since = world.loop.time() - TELL_S - CANCEL_GRACE_S - 1.0
        cancelled = {
            one.ask.nonce
            for one in world.ledger.jobs
            if one.cancelled_at < since and one.accepted_at > max(lossy, default=0.0)
        }
        if not cancelled or max(away, default=0.0) > since:
            return
        for runner in pooled.launcher.live:
            running = set(runner.is_running())
            if running and running <= cancelled:
                world.checks.problem(f"{pooled.life} goes on with {running}, all cancelled")

    def on_leased(self, holder: str, leased: Sequence[Leased]) -> None:
        """See that each lease is another attempt, and that none is given twice."""
        for job in leased:
            self._attempts[job.uid] += 1
            if job.attempt != self._attempts[job.uid]:
                what = f"{holder} has attempt {job.attempt} of {job.uid}"
                self._world.checks.problem(f"{what}, not {self._attempts[job.uid]}")


def judge_jobs(world: World) -> None:
    """See that each job that was accepted came to one end, and to the right one."""
    if world.database is None:
        return
    problem = world.checks.problem
    rows = {row.uid: row for row in world.database.ask("SELECT * FROM jobs")}
    results = dict(map(tuple, world.database.ask("SELECT uid, content FROM job_results")))
    steps: defaultdict[str, list[Step]] = defaultdict(list)
    for step in world.database.steps():
        steps[step.uid].append(step)
    keys = Counter(row.idempotency_key for row in rows.values())
    for one in world.ledger.jobs:
        if keys[one.ask.id] > 1:
            problem(f"job {one.ask.id} is kept {keys[one.ask.id]} times")
        if not one.uid:
            continue
        row = rows.get(one.uid)
        if row is None:
            problem(f"job {one.ask.id} was accepted, and is lost")
            continue
        _judge_end(world, one, row, results.get(one.uid))
        _judge_steps(world, one, row, steps[one.uid])
    _judge_offices(world)


def _judge_end(world: World, one: Submitted, row: Any, result: bytes | None) -> None:
    """See that a job ended as it may, with the result that it must have."""
    problem, ask, name = world.checks.problem, one.ask, f"job {one.ask.id} ({one.ask.act})"
    kinds = {struck.fault.kind for struck in world.faults}
    if row.state not in ENDS:
        problem(f"{name} is still {row.state}")
    if (row.state == "succeeded") != (result is not None):
        problem(f"{name} {row.state} with the result {result!r}")
    if result is not None and result != right_answer(world, ask):
        problem(f"{name} has a wrong result: {result!r:.60}")
    allowed = {"succeeded"}
    # It never ends in time, and others wait for its runner.
    has_hopeless = any(job.ask.work_ms / 1000 > job.ask.timeout_s for job in world.ledger.jobs)
    if ask.act:
        allowed = {"failed"}
    elif kinds - QUIET_FAULTS or ask.timeout_s < 10.0 or world.schedule.is_heavy or has_hopeless:
        allowed.add("failed")
    if one.was_cancelling:
        allowed.add("cancelled")
    if ask.expires_s is not None or kinds - QUIET_FAULTS or world.schedule.is_heavy:
        allowed.add("expired")
    if row.state not in allowed:
        problem(f"{name} {row.state}: {row.error}, not one of {allowed}")
    if one.is_cancelled and row.state != "cancelled":
        problem(f"{name} was cancelled, and then {row.state}")
    most = ask.max_attempts or MAX_ATTEMPTS
    if row.failures > most:
        problem(f"{name} has failed {row.failures} times, not {most}")
    if row.state == "failed" and row.failures < most and ask.act != "refuse":
        problem(f"{name} was given up after {row.failures} of {most} failures: {row.error}")
    is_refused = row.state == "failed" and ask.act == "refuse"
    if is_refused and row.failures != 1 and not has_hopeless:
        problem(f"{name} was tried {row.failures} times, and would be refused each time")


def _judge_steps(world: World, one: Submitted, row: Any, steps: list[Step]) -> None:
    """See that a job went its way once, and when it might."""
    problem, name = world.checks.problem, f"job {one.ask.id} ({one.ask.act})"
    kinds = {struck.fault.kind for struck in world.faults}
    skew_s = 2 * world.schedule.skew_s + 1e-3
    ends = [step for step in steps if step.new in ENDS]
    if len(ends) > 1 or any(step.old in ENDS for step in steps):
        problem(f"{name} came to its end more than once: {[(s.old, s.new) for s in steps]}")
    begun = [step for step in steps if step.new == "running"]
    if len(begun) != row.attempt:
        problem(f"{name} was begun {len(begun)} times, and counts {row.attempt}")
    _judge_times(world, one, row, steps)
    lapsed = [
        step
        for step in steps
        if step.old == "running" and (step.lease_until or 0.0) - EPOCH < step.at - skew_s
    ]
    if lapsed and not kinds & LOSE_LEASES:
        problem(f"a lease of {name} ran out, of {lapsed[0].holder}")
    if not kinds - QUIET_FAULTS and row.state in ("succeeded", "failed") and not one.was_cancelling:
        wanted = row.failures + (row.state == "succeeded")
        if row.attempt > wanted and not world.schedule.is_heavy:
            problem(f"{name} took {row.attempt} attempts, not {wanted}")


def _judge_times(world: World, one: Submitted, row: Any, steps: list[Step]) -> None:
    """See that a job was begun when it might, and not when it was over."""
    problem, ask, name = world.checks.problem, one.ask, f"job {one.ask.id} ({one.ask.act})"
    skew_s = 2 * world.schedule.skew_s + 1e-3
    created, deadline = row.created - EPOCH, row.deadline - EPOCH
    for step in steps:
        if step.new == "running" and step.at < created + ask.delay_s - skew_s:
            problem(f"{name} was begun {created + ask.delay_s - step.at:.2f} s too early")
        if step.new == "running" and step.at > deadline + skew_s:
            problem(f"{name} was begun {step.at - deadline:.2f} s too late")
        if step.new == "expired" and step.at < deadline - skew_s:
            problem(f"{name} expired {deadline - step.at:.2f} s too early")
    if {struck.fault.kind for struck in world.faults} - QUIET_FAULTS or not one.is_cancelled:
        return
    cancelled_at = next(step.at for step in steps if step.new in ENDS)
    for run in world.ledger.runs:
        is_its = (
            run.nonce == ask.nonce and run.is_first_of_batch
        )  # others run after one that failed
        if is_its and run.at > cancelled_at + TELL_S:
            problem(f"{name} ran {run.at - cancelled_at:.1f} s after it was cancelled")


def _judge_offices(world: World) -> None:
    """See that gateways hold none, and agree on what they did."""
    for front in world.fronts:
        office = front.office
        if office is None:
            continue
        pump = office.pump
        if pump.running or pump._bytes or any(pump._by_model.values()):
            world.checks.problem(f"{front.name} holds {pump.running} jobs")
        if pump._finishing._waiting:
            world.checks.problem(f"{front.name} has endings that are not kept")


def jobs_end_by(world: World) -> float:
    """Give the time by which all jobs must be at their ends."""
    last = max((one.at for one in world.ledger.jobs), default=world.loop.time())
    return max(last, world.loop.time()) + EXPIRES_S + 3 * LEASE_S


def are_ended(world: World) -> bool:
    """Return whether all jobs are at their ends, and those who wait for one have it."""
    if world.database is None:
        return True
    if not all(one.uid for one in world.ledger.jobs):
        return False
    query = "SELECT count(*) FROM jobs WHERE finished IS NULL"
    return not world.database.ask(query)[0][0] and not any(
        front.office.pump.running for front in world.fronts if front.office is not None
    )
