"""Jobs in a cluster while gateways and workers are killed, and while the database is away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from modelyard.store.schema import open_engine
from modelyard.store.tables import JOB_RESULTS, JOBS
from tests.faults.conftest import with_a_worker
from tests.support.broker import Broker
from tests.support.cluster import Cluster
from tests.support.jobs import Store
from tests.support.ledger import answer_of
from tests.support.postgres import Postgres
from tests.support.server import Member, wait_until

JOBS_ASKED = 240
FIRST, SECOND = 1001, 1002


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


@pytest.fixture
def cluster(broker: Broker, stack: ExitStack, postgres: Postgres, tmp_path: Path) -> Cluster:
    store = Store(tmp_path, database_url=postgres.url)
    url = store.settings["MODELYARD_DATABASE_URL"]
    return with_a_worker(Cluster(broker, stack, MODELYARD_DATABASE_URL=url))


def submit(gateway: Member, nonce: int, **trick: Any) -> httpx.Response:
    body = {"model_name": "trick_model", "input_data": [{"nonce": nonce, **trick}]}
    return gateway.http.put(f"/jobs/j{nonce}", json=body)


def test_row_37_every_job_that_was_accepted_ends_with_one_right_result(
    cluster: Cluster, postgres: Postgres, tmp_path: Path
) -> None:
    """A gateway that runs jobs is killed, and a worker: others go on."""
    diary = tmp_path / "diary"
    leaving = cluster.start_gateway()
    cluster.wait_for_workers(1, leaving)
    cluster.start_worker()
    trick = {"act": "work", "seconds": 0.02, "diary": str(diary)}

    def ask(nonce: int) -> int:
        try:
            gateway = (leaving, cluster.gateway)[nonce % 2]
            return submit(gateway, nonce, **trick).status_code
        except httpx.TransportError:
            return 0  # nothing was promised

    with ThreadPoolExecutor(8) as threads:
        statuses = threads.map(ask, range(JOBS_ASKED))
        wait_until(lambda: diary.exists() and len(diary.read_text().splitlines()) > 20, what="some")
        cluster.workers[0].process.kill()
        leaving.process.kill()
        accepted = [nonce for nonce, status in enumerate(statuses) if status == 202]
    assert len(accepted) > JOBS_ASKED / 3
    # Its leases would end in half a minute, and nobody wants to wait for that here.
    engine = open_engine(postgres.url)
    with engine.begin() as connection:
        gone = JOBS.c.holder.like(f"%.{leaving.process.pid}.%")
        connection.execute(JOBS.update().where(gone).values(lease_until=0.0))
    http = cluster.gateway.http

    def ended(nonce: int) -> Any:
        found = http.get(f"/jobs/j{nonce}", params={"wait": 10}).json()
        return found if found["finished"] else None

    for nonce in accepted:
        found = wait_until(partial(ended, nonce), what=f"the end of {nonce}")
        assert found["state"] == "succeeded", found
        assert http.get(f"/jobs/j{nonce}/result").json()["prediction"] == [answer_of(nonce)]
    with engine.connect() as connection:
        results = Counter(connection.execute(sa.select(JOB_RESULTS.c.uid)).scalars())
        kept = set(connection.execute(sa.select(JOBS.c.uid)).scalars())
    engine.dispose()
    assert set(results) == kept
    assert set(results.values()) == {1}


def test_a_worker_s_model_is_told_of_a_cancelled_job_and_tells_how_far_it_is(
    broker: Broker, stack: ExitStack, postgres: Postgres, tmp_path: Path
) -> None:
    store = Store(tmp_path, database_url=postgres.url)
    url = store.settings["MODELYARD_DATABASE_URL"]
    grace = Cluster(broker, stack, MODELYARD_DATABASE_URL=url, MODELYARD_JOB_CANCEL_GRACE_S="0.5")
    cluster = with_a_worker(grace)
    http, (worker,) = cluster.gateway.http, cluster.workers
    for nonce, act in enumerate(("heed", "hang"), start=2001):
        diary = tmp_path / act
        submit(cluster.gateway, nonce, act=act, diary=str(diary), seconds=0.5)
        wait_until(diary.exists, what="the job to run")
        if act == "heed":
            wait_until(lambda: http.get("/jobs/j2001").json()["progress"], what="its progress")
        assert http.post(f"/jobs/j{nonce}/cancel").json()["state"] == "cancelled"
        assert cluster.ask(5).json()["prediction"] == [answer_of(5)]
    found = http.get("/jobs/j2001").json()
    assert (found["progress"], found["progress_message"]) == (0.5, "heeding")
    assert (tmp_path / "heed.heeded").exists()
    assert worker.metric("modelyard_runner_restarts_total", cause="cancelled") == 1


def test_row_38_without_the_database_no_job_is_accepted_and_all_others_are_answered(
    cluster: Cluster, postgres: Postgres, tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    assert submit(cluster.gateway, FIRST, act="wait", diary=str(diary)).status_code == 202
    wait_until(diary.exists, what="the job to run")
    postgres.stop()
    Path(f"{diary}.go").touch()  # its result comes while nobody can keep it
    refused = submit(cluster.gateway, SECOND)
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert int(refused.headers["retry-after"]) > 0
    assert cluster.gateway.http.get(f"/jobs/j{FIRST}").status_code == 503
    for nonce in range(50):
        assert cluster.ask(nonce).json()["prediction"] == [answer_of(nonce)]
    postgres.restart()
    wait_until(
        lambda: submit(cluster.gateway, SECOND).status_code == 202, what="jobs to be accepted"
    )
    http = cluster.gateway.http
    for nonce in (FIRST, SECOND):

        def has_succeeded(nonce: int = nonce) -> bool:
            found = http.get(f"/jobs/j{nonce}", params={"wait": 10})
            return found.is_success and found.json()["state"] == "succeeded"

        wait_until(has_succeeded, what=f"the end of {nonce}")
    assert http.get(f"/jobs/j{FIRST}").json()["attempts"] == 1
