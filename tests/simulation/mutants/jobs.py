"""Mutants of jobs: their queue, their leases, and what becomes of attempts."""

from __future__ import annotations

from tests.simulation.mutants.mutant import Mutant, one

PUMP = "jobs.pump:Pump"
QUEUE = "store.job_queue:JobQueue"

JOBS: tuple[Mutant, ...] = (
    one(
        "a job that was cancelled gets a result",
        f"{QUEUE}.finish",
        "JOBS.c.uid.in_(uids), _RUNNING)",
        "JOBS.c.uid.in_(uids))",
        seed=38,
    ),
    one(
        "an attempt that has lost its lease ends the job",
        f"{QUEUE}.finish",
        "attempts.get(one.uid) == one.attempt",
        "one.uid in attempts",
        seed=75,
    ),
    one(
        "jobs are leased that another has leased",
        f"{QUEUE}._take",
        "uids = jobs_in_turn(*asked, is_bulk=is_bulk, most=left, now=now)",
        "uids = connection.execute(sa.select(JOBS.c.uid).where(JOBS.c.model == model, "
        "JOBS.c.finished.is_(None), JOBS.c.state != 'delayed').limit(left)).scalars().all()",
        seed=7,
    ),
    one(
        "a job is begun before its time",
        "store.job_queue:_promote",
        "ready_at <= now",
        "ready_at > 0",
        seed=7,
    ),
    one(
        "a job is begun after its deadline",
        f"{QUEUE}._take",
        "now=now",
        "now=0.0",
        seed=29,
    ),
    one(
        "what a lease was for is not taken back when it has run out",
        "store.job_queue:_take_back",
        "JOBS.c.lease_until < now, JOBS.c.attempt < MOST_ATTEMPTS",
        "JOBS.c.lease_until < 0, JOBS.c.attempt < MOST_ATTEMPTS",
        seed=40,
    ),
    one(
        "leases are not renewed",
        f"{PUMP}._renew_all",
        "await self._asked_book(self._renew)",
        "pass",
        seed=18,
    ),
    one(
        "a gateway that stops keeps its leases",
        f"{PUMP}._release",
        'self._give_up(held, GivenUp("the process stops; the job is run elsewhere"))',
        "pass",
        seed=18,
    ),
    one(
        "the place of a job is not free again",
        f"{PUMP}._let_go",
        "self._by_model[held.job.model] -= 1",
        "pass",
        seed=7,
    ),
    one(
        "an attempt that is run again is still counted",
        f"{PUMP}._begin",
        "self._let_go(before)",
        "pass",
        seed=75,
    ),
    one(
        "attempts have no end",
        f"{PUMP}._end",
        "ending_of(held.job,",
        "ending_of(msgspec.structs.replace(held.job, failures=0),",
        seed=40,
    ),
    one(
        "a job that is sent again is kept again",
        "store.jobs:_find_kept",
        "found[job.uid] = Accepted(row.id, row.digest)",
        "found[job.uid] = Accepted(job.id, row.digest)",
        seed=40,
    ),
    one(
        "a job that was cancelled runs on",
        f"{PUMP}._renew",
        'self._give_up(lost, Cancelled() if is_cancelled else GivenUp("it is run elsewhere"))',
        "pass",
        seed=286,
    ),
    one(
        "a runner goes on with what was cancelled",
        "pool.serial:SerialSlot.is_unwanted",
        "return now >= self._unwanted_until",
        "return False",
        seed=340,
    ),
)
