"""The contract of the book of jobs, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from modelyard.core.errors import Failure
from modelyard.jobs.delivery import Attempt
from modelyard.jobs.interfaces import BookAway
from modelyard.jobs.job import (
    Accepted,
    Ending,
    Job,
    Leased,
    NewJob,
    Progressed,
    Question,
    Renewed,
    Result,
    Uids,
)
from modelyard.store.deliveries import DeliveryStore
from modelyard.store.job_queue import MOST_ATTEMPTS
from modelyard.store.job_retention import Jobs
from modelyard.store.schema import open_engine, upgrade
from modelyard.store.tables import DELIVERIES, JOB_INPUTS, JOB_RESULTS, JOBS
from tests.contract.conftest import Now

LATER = 2000.0
UIDS = Uids(os.urandom)


@pytest.fixture
def book(engine: sa.Engine, now: Now) -> Jobs:
    upgrade(engine)
    return Jobs(engine, wall_clock=now)


def new_job(**changes: Any) -> NewJob:
    uid = UIDS.new(changes.get("created", 1000.0))
    job = NewJob(
        uid=uid,
        id=uid,
        tenant="",
        owner="",
        key="",
        model="iris",
        version=None,
        form="json",
        door="",
        echo="",
        input=b"[1]",
        timeout_s=None,
        rank=0,
        created=1000.0,
        ready_at=1000.0,
        deadline=LATER,
        max_attempts=3,
        callback=None,
        idempotency_key=None,
        digest="d",
    )
    return msgspec.structs.replace(job, **changes)


def lease(book: Jobs, most: int = 10, *, until: float = 1030.0, **models: int) -> list[Leased]:
    return book.lease(models or {"iris": most}, holder="me", until=until)


def succeed(job: Leased, output: bytes = b"[0]") -> Ending:
    return Ending(uid=job.uid, attempt=job.attempt, state="succeeded", output=output, version="1")


def found(book: Jobs, job: NewJob) -> Job:
    known = book.find(job.id, job.tenant)
    assert known is not None
    return known


def uids(jobs: Iterable[Leased | NewJob | Job]) -> list[str]:
    return [job.uid for job in jobs]


def test_a_job_is_kept_leased_and_finished_once(book: Jobs, now: Now) -> None:
    job = new_job(input=b"\x00\xff", form="msgpack", version="1", timeout_s=2.5, key="k")
    assert book.accept([job]) == [Accepted(job.id, "d")]
    assert found(book, job).state == "queued"
    now.time = 1001.0
    (leased,) = lease(book)
    assert (leased.input, leased.form, leased.attempt) == (b"\x00\xff", "msgpack", 1)
    assert (leased.version, leased.timeout_s, leased.key) == ("1", 2.5, "k")
    assert lease(book) == []
    now.time = 1002.0
    assert book.finish([succeed(leased)]) == {job.uid}
    known = found(book, job)
    assert (known.state, known.started, known.finished) == ("succeeded", 1001.0, 1002.0)
    assert (known.attempts, known.failures, known.answered_version) == (1, 0, "1")
    assert book.result_of(job.uid) == Result(b"[0]")
    assert book.finish([succeed(leased, b"[9]")]) == set()
    assert book.result_of(job.uid) == Result(b"[0]")


def test_whoever_lost_its_lease_brings_no_result(book: Jobs, now: Now) -> None:
    book.accept([job := new_job()])
    (first,) = lease(book)
    now.time = 1031.0
    book.sweep()
    assert found(book, job).state == "queued"
    (second,) = lease(book, until=1060.0)
    assert (second.uid, second.attempt) == (first.uid, 2)
    assert book.renew({first.uid: first.attempt}, until=1090.0).held == set()
    assert book.renew({first.uid: second.attempt}, until=1090.0).held == {first.uid}
    assert book.finish([succeed(first, b"[1]")]) == set()
    assert found(book, job).state == "running"
    assert book.finish([succeed(second, b"[2]")]) == {job.uid}
    assert book.result_of(job.uid) == Result(b"[2]")


def test_progress_is_that_of_the_attempt_that_runs(book: Jobs, now: Now) -> None:
    book.accept([job := new_job()])
    (first,) = lease(book)
    book.note_progress([Progressed(job.uid, 1, 0.25, "reading")])
    known = found(book, job)
    assert (known.progress, known.progress_message) == (0.25, "reading")
    now.time = 1031.0
    book.sweep()
    (second,) = lease(book, until=1060.0)
    assert found(book, job).progress is None
    late = Progressed(first.uid, first.attempt, 0.75, "")
    book.note_progress([late, Progressed(second.uid, second.attempt, 0.5, "")])
    known = found(book, job)
    assert (known.progress, known.progress_message) == (0.5, None)
    book.finish([succeed(second)])
    book.note_progress([Progressed(second.uid, second.attempt, 0.75, "")])
    assert found(book, job).progress == 0.5


def test_a_lease_that_is_renewed_is_not_taken_back(book: Jobs, now: Now) -> None:
    book.accept([new_job()])
    (leased,) = lease(book)
    assert book.renew({leased.uid: 1}, until=1100.0).held == {leased.uid}
    now.time = 1050.0
    book.sweep()
    assert lease(book) == []


def test_the_first_of_the_highest_priority_goes_first(book: Jobs, now: Now) -> None:
    low, old, urgent = new_job(rank=5), new_job(created=999.0, ready_at=999.0), new_job(rank=-5)
    other = new_job(model="sentiment")
    now.time = 1001.0
    book.accept([low, old, urgent, other])
    order = [lease(book, 1)[0].uid for _ in range(3)]
    assert order == [urgent.uid, old.uid, low.uid]
    assert lease(book, iris=3) == []
    assert uids(lease(book, iris=3, sentiment=3)) == [other.uid]


def test_owners_take_turns_however_many_jobs_one_of_them_has(book: Jobs) -> None:
    many = [new_job(tenant="b", rank=-100) for _ in range(200)]
    book.accept([*many, *(new_job(tenant=tenant) for tenant in "aacd")])
    last = new_job(tenant="c", rank=1)
    book.accept([last])
    assert book.place_of(found(book, last)).before == 1 + 2 + 2 + 1  # c, a a, b b, d
    turns = ["".join(sorted(job.tenant for job in lease(book, most))) for most in (1, 2, 3, 4)]
    assert turns == ["a", "bc", "abd", "bbbc"]
    assert {job.tenant for job in lease(book, 300)} == {"b"}


def test_nothing_is_leased_before_its_time_or_after_its_deadline(book: Jobs, now: Now) -> None:
    early, late = new_job(ready_at=1010.0), new_job(deadline=1005.0, callback="https://a.example")
    book.accept([early, late])
    assert found(book, early).state == "queued"
    now.time = 1005.0
    assert lease(book) == []
    book.sweep()
    known = found(book, late)
    assert (known.state, known.finished) == ("expired", 1005.0)
    assert deliveries(book) == [("job.expired", late.uid)]
    now.time = 1010.0
    book.sweep()
    assert uids(lease(book)) == [early.uid]


def test_an_attempt_that_failed_waits_and_counts(book: Jobs, now: Now) -> None:
    book.accept([job := new_job(max_attempts=2)])
    (leased,) = lease(book)
    error = Failure("model_failed", "it raised ValueError")
    again = Ending(
        uid=job.uid, attempt=1, state="queued", error=error, ready_at=1020.0, is_failure=True
    )
    assert book.finish([again]) == {job.uid}
    known = found(book, job)
    assert (known.state, known.failures, known.error) == ("queued", 1, error)
    assert known.ready_at == 1020.0
    book.sweep()
    assert lease(book) == []
    now.time = 1020.0
    book.sweep()
    (leased,) = lease(book, until=1060.0)
    assert (leased.attempt, leased.failures, leased.max_attempts) == (2, 1, 2)
    failed = Ending(uid=job.uid, attempt=2, state="failed", error=error, is_failure=True)
    assert book.finish([failed]) == {job.uid}
    assert [one.state for one in book.list(Question(tenant="", state="failed"))] == ["failed"]


def test_a_dead_job_is_tried_again_or_forgotten(book: Jobs, engine: sa.Engine, now: Now) -> None:
    book.accept([job := new_job(callback="https://a.example/hook")])
    assert not book.retry(job.uid, deadline_in_s=10)
    assert not book.remove(job.uid)
    (leased,) = lease(book)
    error = Failure("model_failed", "it raised")
    end = Ending(uid=job.uid, attempt=1, state="failed", error=error, is_failure=True)
    book.finish([end])
    now.time = 5000.0
    assert book.retry(job.uid, deadline_in_s=10)
    known = found(book, job)
    assert (known.state, known.failures, known.error) == ("queued", 0, None)
    assert (known.deadline, known.finished) == (5010.0, None)
    (leased,) = lease(book, until=5030.0)
    assert leased.attempt == 2
    book.finish([succeed(leased)])
    assert not book.retry(job.uid, deadline_in_s=10)
    assert deliveries(book) == [("job.failed", job.uid), ("job.succeeded", job.uid)]
    assert book.remove(job.uid)
    assert book.find(job.id, None) is None
    with engine.connect() as connection:
        for table in (JOBS, JOB_INPUTS, JOB_RESULTS, DELIVERIES):
            assert connection.execute(table.select()).all() == []


def test_what_is_cancelled_gets_no_result(book: Jobs) -> None:
    book.accept([queued := new_job(), running := new_job(rank=-1)])
    (leased,) = lease(book, 1)
    assert leased.uid == running.uid
    for job in (queued, running):
        assert book.cancel(job.uid)
        assert not book.cancel(job.uid)
        assert found(book, job).state == "cancelled"
    assert lease(book) == []
    held = {leased.uid: 1, "forgotten": 1}
    assert book.renew(held, until=1090.0) == Renewed(set(), {running.uid, "forgotten"})
    assert book.finish([succeed(leased)]) == set()
    assert book.result_of(running.uid) is None


def test_a_job_whose_holders_are_always_gone_fails_at_last(
    book: Jobs, engine: sa.Engine, now: Now
) -> None:
    book.accept([job := new_job()])
    lease(book)
    with engine.begin() as connection:
        connection.execute(JOBS.update().values(attempt=MOST_ATTEMPTS))
    now.time = 1031.0
    book.sweep()
    known = found(book, job)
    assert known.error is not None
    assert (known.state, known.error.code) == ("failed", "unavailable")


def test_a_name_is_taken_once_by_each_tenant(book: Jobs) -> None:
    first = new_job(id="mine", idempotency_key="key")
    assert book.accept([first]) == [Accepted("mine", "d")]
    same = new_job(id="mine", digest="other")
    keyed = new_job(idempotency_key="key", digest="other")
    theirs = new_job(id="mine", idempotency_key="key", tenant="t")
    fresh = new_job()
    assert book.accept([fresh, same, keyed, theirs]) == [
        Accepted(fresh.id, "d"),
        *[Accepted("mine", "d")] * 2,
        Accepted("mine", "d"),
    ]
    assert found(book, first).uid == first.uid
    assert found(book, theirs).uid == theirs.uid
    assert set(uids(book.list(Question(tenant=None)))) == {first.uid, theirs.uid, fresh.uid}


def test_jobs_are_listed_from_the_newest_page_by_page(book: Jobs) -> None:
    jobs = [new_job(created=1000.0 + n, tenant="t", model=f"m{n % 2}") for n in range(6)]
    book.accept([*jobs, new_job(tenant="u")])
    newest = uids(reversed(jobs))
    first = book.list(Question(tenant="t", most=4))
    assert uids(first) == newest[:4]
    rest = book.list(Question(tenant="t", most=4, before=first[-1].uid))
    assert uids(rest) == newest[4:]
    odd = book.list(Question(tenant="t", model="m1", state="queued"))
    assert uids(odd) == [
        uid for uid, job in zip(newest, reversed(jobs), strict=True) if job.model == "m1"
    ]
    assert book.list(Question(tenant="t", state="running")) == []


def test_a_place_is_counted_and_the_rate_is_that_of_late(book: Jobs, now: Now) -> None:
    jobs = [new_job(created=1000.0 + n, ready_at=1000.0 + n) for n in range(4)]
    now.time = 1010.0
    book.accept([*jobs, new_job(model="other")])
    assert book.place_of(found(book, jobs[3])).before == 3
    book.finish([succeed(job) for job in lease(book, 3, until=1030.0)])
    place = book.place_of(found(book, jobs[3]))
    assert (place.before, place.is_exact, place.per_s) == (0, True, 3 / 60)


def test_two_holders_never_get_the_same_job(book: Jobs) -> None:
    jobs = [new_job() for _ in range(200)]
    book.accept(jobs)

    def take(name: str) -> list[str]:
        mine: list[str] = []
        while taken := book.lease({"iris": 7}, holder=name, until=1030.0):
            mine += uids(taken)
            book.finish([succeed(job, name.encode()) for job in taken])
        return mine

    with ThreadPoolExecutor(4) as threads:
        taken = [uid for part in threads.map(take, "abcd") for uid in part]
    missed = [job.uid for job in jobs if job.uid not in taken]
    assert len(taken) == len(set(taken))
    # PostgreSQL passes over rows that another holds just then, so a holder may leave early.
    assert missed == [] or take("e")
    assert {book.find(job.id, "").state for job in jobs} == {"succeeded"}  # type: ignore[union-attr]


def test_changes_are_seen_by_revision(book: Jobs) -> None:
    book.accept([job := new_job()])
    assert book.revisions([job.uid, "gone"]) == {job.uid: 1}
    lease(book)
    assert book.revisions([job.uid]) == {job.uid: 2}


def test_a_book_that_is_away_says_so() -> None:
    away = Jobs(open_engine("postgresql://nobody@127.0.0.1:1/nothing"), wall_clock=lambda: 1000.0)
    for ask in (
        lambda: away.accept([new_job()]),
        lambda: away.lease({"iris": 1}, holder="me", until=1.0),
        lambda: away.find("x", None),
        away.sweep,
    ):
        with pytest.raises(BookAway, match=r"127\.0\.0\.1"):
            ask()


def deliveries(book: Jobs) -> list[tuple[str, str]]:
    query = sa.select(DELIVERIES.c.kind, DELIVERIES.c.uid).order_by(DELIVERIES.c.id)
    with book.engine.connect() as connection:
        return [(row.kind, row.uid) for row in connection.execute(query)]


def test_what_is_old_or_too_large_is_forgotten_unless_its_callback_waits(
    book: Jobs, engine: sa.Engine, now: Now
) -> None:
    hook = "https://a.example/hook"
    untold, *old = new_job(callback=hook), new_job(), new_job(model="large", input=b"x" * 100)
    book.accept([untold, *old])
    book.finish([succeed(job, b"y" * 50) for job in lease(book, large=1, iris=2)])
    now.time = 1100.0
    book.accept([fresh := new_job(model="large", input=b"x" * 10, ready_at=1100.0)])
    assert book.sizes() == {"iris": 106, "large": 150}
    assert book.trim("large", 1, 10) == 150
    assert book.trim("large", 1, 10) == 0
    assert book.purge(1000.0, 10) == 0
    assert book.purge(1050.0, 10) == 1
    assert {job.uid for job in book.list(Question(tenant=None))} == {untold.uid, fresh.uid}
    with engine.begin() as connection:
        connection.execute(DELIVERIES.update().values(due=None))
    assert book.purge(1050.0, 10) == 1
    assert uids(book.list(Question(tenant=None))) == [fresh.uid]


def test_callbacks_are_due_in_turn_and_pass_by_who_has_enough(
    book: Jobs, engine: sa.Engine, now: Now
) -> None:
    hosts = ("a.example", "a.example:444", "b.example")
    jobs = [new_job(callback=f"https://{host}/hook", tenant=host[0]) for host in hosts]
    book.accept(jobs)
    for job in jobs:
        now.time += 1
        book.cancel(job.uid)
    kept = DeliveryStore(engine, wall_clock=now)

    def due(most: int = 9, **but: list[str]) -> list[str]:
        asked = {"hosts": [], "tenants": [], **but}
        found = kept.due(most, until=now.time + 60, **asked)
        return [parcel.host for parcel in found]

    assert due(hosts=["a.example"], tenants=["b"]) == ["a.example:444"]
    assert due(1) == ["a.example"]
    assert due() == ["b.example"]
    assert due() == []
    now.time += 60  # whoever took them is gone
    (parcel, *_) = kept.due(1, hosts=[], tenants=[], until=now.time + 60)
    assert parcel.attempts == 2
    kept.note(Attempt(id=parcel.id, state="pending", status=500, error="x", due=now.time + 5))
    (told,) = kept.deliveries_of(parcel.id.split("_")[1])
    assert (told.state, told.status, told.error, told.attempts) == ("pending", 500, "x", 2)
    kept.note(Attempt(id=parcel.id, state="failed", error="gone"))
    (told,) = kept.deliveries_of(parcel.id.split("_")[1])
    assert (told.state, told.due, told.finished) == ("failed", None, now.time)
    assert kept.replay(parcel.id)
    assert not kept.replay("nothing")
    assert parcel.host in due()
