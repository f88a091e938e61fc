"""Jobs by the Python client and by the command line, with a real server."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import numpy as np
import pytest

from modelyard.client import (
    AsyncClient,
    Client,
    Conflict,
    DeadlineExceeded,
    InvalidInput,
    JobNotFound,
    ModelFailed,
    ModelNotFound,
)
from tests.e2e.conftest import TRICK
from tests.support.identities import write_identities
from tests.support.jobs import Store
from tests.support.preloaded import run
from tests.support.server import Server, wait_until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("jobs")
    arrays = write_identities(folder / "models") / "fp32-1"
    with Server(TRICK, arrays, settings=Store(folder).settings) as server:
        wait_until(lambda: server.http.get("/readyz").json()["status"] == "ready", what="models")
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


def test_a_job_is_submitted_and_waited_for(client: Client) -> None:
    job = client.submit("trick_model", [{"nonce": 5}], priority=3, max_attempts=2)
    assert job.result() == [16]
    info = job.wait()
    assert (info.state, info.priority, info.max_attempts) == ("succeeded", 3, 2)
    assert job.answer().version == "1"
    assert client.job(job.id).result(timeout_s=1) == [16]
    with pytest.raises(Conflict):
        job.cancel()


def test_arrays_come_back_as_arrays(client: Client) -> None:
    pairs = np.array([[1, 2], [3, 4]], "f4")
    found = client.submit("fp32", pairs).result()
    assert found.dtype == pairs.dtype
    assert found.tolist() == pairs.tolist()


def test_a_name_of_ones_own_is_one_job(client: Client) -> None:
    first = client.submit("trick_model", [{"nonce": 1}], id="night-7")
    again = client.submit("trick_model", [{"nonce": 1}], id="night-7")
    assert (first.id, again.id) == ("night-7", "night-7")
    with pytest.raises(Conflict):
        client.submit("trick_model", [{"nonce": 2}], id="night-7")
    with pytest.raises(ValueError, match="no job can be called"):
        client.submit("trick_model", [{"nonce": 2}], id="a/b")


def test_errors_are_those_of_a_prediction(client: Client) -> None:
    with pytest.raises(ModelNotFound):
        client.submit("nobody", [1])
    with pytest.raises(InvalidInput) as refused:
        client.submit("trick_model", [{"nonce": "x"}]).result()
    assert refused.value.where == "$.input_data[0].nonce"
    job = client.submit("trick_model", [{"nonce": 1, "act": "raise"}], max_attempts=1)
    with pytest.raises(ModelFailed):
        job.result()
    assert job.retry().state == "queued"
    assert job.wait().failures == 1
    assert job.id in [one.id for one in client.jobs(state="failed", limit=5)]
    with pytest.raises(JobNotFound):
        client.job("nothing").info()


def test_a_job_that_takes_long_is_waited_for_no_longer_than_wanted(client: Client) -> None:
    job = client.submit("trick_model", [{"nonce": 1}], delay_s=3600, expires_s=7200)
    with pytest.raises(DeadlineExceeded):
        job.wait(timeout_s=0.1)
    assert job.cancel().state == "cancelled"
    with pytest.raises(Conflict):
        job.result()


def test_events_are_the_job_at_each_change(client: Client, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    job = client.submit("trick_model", [{"nonce": 1, "act": "wait", "diary": str(diary)}])
    wait_until(diary.exists, what="it to run")
    states = []
    for info in job:
        states.append(info.state)
        Path(f"{diary}.go").touch()
    assert list(dict.fromkeys(states)) == ["running", "succeeded"]  # progress is a change too


def test_the_same_with_asyncio(server: Server) -> None:
    async def run() -> None:
        async with AsyncClient(server.url) as client:
            jobs = [await client.submit("trick_model", [{"nonce": n}]) for n in range(5)]
            results = await asyncio.gather(*(job.result() for job in jobs))
            assert results == [[n * 3 + 1] for n in range(5)]
            assert [info.state async for info in jobs[0]] == ["succeeded"]
            listed = await client.jobs(model="trick_model", limit=5)
            assert [one.id for one in listed] == [job.id for job in reversed(jobs)]
            with pytest.raises(Conflict):
                await jobs[0].cancel()

    asyncio.run(run())


def modelyard(server: Server, *arguments: str) -> str:
    done = run("jobs", *arguments, "--url", server.url)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_command_line_lists_shows_cancels_and_retries(server: Server, client: Client) -> None:
    job = client.submit("trick_model", [{"nonce": 1}], delay_s=3600)
    assert modelyard(server, "cancel", job.id) == f"{job.id}: cancelled\n"
    listed = modelyard(server, "list", "--state", "cancelled", "--limit", "1").splitlines()
    assert listed[0].split() == ["JOB", "MODEL", "STATE", "CREATED", "ATTEMPTS", "WHY"]
    assert listed[1].split()[:3] == [job.id, "trick_model", "cancelled"]
    assert modelyard(server, "retry", job.id) == f"{job.id}: queued\n"
    job.wait()
    shown = modelyard(server, "show", job.id)
    assert "state" in shown
    assert "succeeded" in shown
    (found,) = json.loads(modelyard(server, "list", "--json", "--limit", "1"))
    assert found["id"] == job.id


def test_a_large_result_is_fetched_without_the_key() -> None:
    """From where the gateway leads to; both are asked for the same bytes."""
    seen: list[dict[str, str]] = []
    content = b'{"model_name":"iris","model_version":"1","prediction":[7]}'

    class Store(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Store) as store:
        threading.Thread(target=store.serve_forever, daemon=True).start()
        location = f"http://127.0.0.1:{store.server_address[1]}/jobs/1?signature=2"

        def gateway(request: httpx2.Request) -> httpx2.Response:
            assert request.headers["x-api-key"] == "mine"
            if request.url.path.endswith("/result"):
                return httpx2.Response(307, headers={"location": location})
            over = {"id": "j", "state": "succeeded", "revision": 2, "model_name": "iris"}
            return httpx2.Response(200, json={**over, "created": 1.0, "finished": 2.0})

        transport = httpx2.MockTransport(gateway)
        headers = {"authorization": "Bearer mine", "x-team": "ours"}
        with Client(api_key="mine", headers=headers, transport=transport) as client:
            assert client.job("j").result() == [7]

        async def ask() -> object:
            async with AsyncClient(api_key="mine", headers=headers, transport=transport) as client:
                return await client.job("j").result()

        assert asyncio.run(ask()) == [7]
        store.shutdown()
    assert len(seen) == 2
    for one in seen:
        assert one.keys().isdisjoint({"x-api-key", "authorization", "x-team", "cookie"})
