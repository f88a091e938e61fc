"""A bulk run in a cluster while the gateway that runs it is killed, and a worker."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from tests.faults.conftest import with_a_worker
from tests.support.broker import Broker
from tests.support.bulk import end_leases, ended, fetch, lines_of, rows_done, send
from tests.support.cluster import Cluster
from tests.support.jobs import Store
from tests.support.postgres import Postgres
from tests.support.server import wait_until

ROWS = 600


def test_row_39_a_bulk_run_has_each_row_once_and_in_order(
    broker: Broker, stack: ExitStack, tmp_path: Path
) -> None:
    """Another gateway goes on after the last chunk that is kept, and runs none of them again."""
    with Postgres() as postgres:
        url = Store(tmp_path, database_url=postgres.url).settings["MODELYARD_DATABASE_URL"]
        cluster = with_a_worker(
            Cluster(
                broker,
                stack,
                MODELYARD_DATABASE_URL=url,
                MODELYARD_ARTEFACTS_URL=str(tmp_path / "at"),
            )
        )
        cluster.start_worker()
        diary = tmp_path / "diary"
        trick = {"act": "work", "seconds": 0.01, "diary": str(diary)}
        rows = [{"nonce": nonce, **trick} for nonce in range(ROWS)]
        rows[100] = {"nonce": 100, "act": "nonsense"}
        hold = tmp_path / "hold"  # so that not all of them have run when everything is killed
        rows[ROWS - 1] = {"nonce": ROWS - 1, "act": "wait", "diary": str(hold)}
        assert send(cluster.gateway.http, lines_of(rows), id="run").status_code == 202
        wait_until(lambda: rows_done(url, "run") > 0, what="a chunk")
        cluster.workers[0].process.kill()
        cluster.gateway.process.kill()
        cluster.gateway.process.wait()
        kept = rows_done(url, "run")
        assert 0 < kept < ROWS
        end_leases(url)
        Path(f"{hold}.go").touch()
        other = cluster.start_gateway()
        found = ended(other.http, "run")
        assert (found["state"], found["rows"]["failed"]) == ("succeeded", 1), found
        good = [nonce for nonce in range(ROWS) if nonce != 100]
        assert fetch(other.http, "run") == [{"row": n, "prediction": n * 3 + 1} for n in good]
        assert [one["row"] for one in fetch(other.http, "run", "errors")] == [100]
        assert other.http.get("/jobs/run").json()["attempts"] == 2
        ran = Counter(map(int, diary.read_text().split()))
        assert set(ran) == set(good) - {ROWS - 1}
