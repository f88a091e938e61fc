"""Jobs, as a caller has them: submitted, waited for, fetched, cancelled, tried again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from modelyard.store.schema import open_engine
from modelyard.store.tables import JOBS
from tests.e2e.conftest import TRICK
from tests.support.chatting import write_chatting
from tests.support.identities import write_identities
from tests.support.jobs import Store, ended
from tests.support.server import Server, wait_until

ASYNC = {"prefer": "respond-async"}
MSGPACK = "application/msgpack"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("jobs")
    pairs = write_identities(folder / "models") / "fp32-1"
    settings = {**Store(folder).settings, "MODELYARD_JOB_MAX_ATTEMPTS": "2"}
    settings["MODELYARD_JOB_CANCEL_GRACE_S"] = "0.5"
    with Server(TRICK, pairs, settings=settings) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the models")
        yield server


def body_of(nonce: int = 1, **trick: Any) -> dict[str, Any]:
    return {"model_name": "trick_model", "input_data": [{"nonce": nonce, **trick}]}


def submit(server: Server, nonce: int = 1, headers: Any = None, **trick: Any) -> str:
    """Submit a job, and give its address."""
    given = {**ASYNC, **(headers or {})}
    answer = server.http.post("/predict", json=body_of(nonce, **trick), headers=given)
    assert answer.status_code == 202, answer.text
    assert answer.headers["preference-applied"] == "respond-async"
    location = answer.headers["location"]
    assert location == f"/jobs/{answer.json()['id']}"
    return str(location)


def test_a_job_is_accepted_run_and_fetched(server: Server) -> None:
    job = submit(server, 7)
    found = ended(server.http, job)
    assert (found["state"], found["attempts"], found["failures"]) == ("succeeded", 1, 0)
    assert (found["model_name"], found["model_version"]) == ("trick_model", "1")
    assert found["created"] <= found["started"] <= found["finished"]
    at_once = server.predict("trick_model", [{"nonce": 7}])
    fetched = server.http.get(f"{job}/result")
    assert (fetched.status_code, fetched.json()) == (200, at_once.json())
    assert (
        server.http.get(f"{job}/result", headers={"x-request-id": "mine"}).headers["x-request-id"]
        == "mine"
    )


def test_the_result_has_the_form_and_protocol_of_the_request(server: Server) -> None:
    packed = server.http.post(
        "/models/trick_model/versions/1/predict",
        content=msgspec.msgpack.encode({"input_data": [{"nonce": 2}]}),
        headers={**ASYNC, "content-type": MSGPACK},
    )
    v1 = server.http.post(
        "/v1/models/trick_model:predict", json={"instances": [{"nonce": 2}]}, headers=ASYNC
    )
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.5, 2.0]}
    v2 = server.http.post(
        "/v2/models/fp32/infer", json={"id": "seven", "inputs": [tensor]}, headers=ASYNC
    )
    results = []
    for answer in (packed, v1, v2):
        assert answer.status_code == 202, answer.text
        job = answer.headers["location"]
        ended(server.http, job)
        results.append(server.http.get(f"{job}/result"))
    assert results[0].headers["content-type"] == MSGPACK
    assert msgspec.msgpack.decode(results[0].content)["prediction"] == [7]
    assert results[1].json() == {"predictions": [7]}
    tensors = results[2].json()
    assert (tensors["id"], tensors["model_name"]) == ("seven", "fp32")
    assert tensors["outputs"][0]["data"] == [1.5, 2.0]


def test_an_answer_in_pieces_is_for_who_waits_for_it(server: Server) -> None:
    """A job has no pieces: who prefers one and accepts events gets what it would have had."""
    headers = {"accept": "text/event-stream"}
    plain = server.http.post("/predict", json=body_of(2), headers=headers)
    both = server.http.post("/predict", json=body_of(2), headers={**headers, **ASYNC})
    assert both.status_code == plain.status_code != 202
    named = server.http.put("/jobs/pieces", json=body_of(2), headers=headers)
    assert named.status_code == 202
    ended(server.http, "/jobs/pieces")
    assert server.http.get("/jobs/pieces/result").json()["prediction"] == [7]


def test_a_name_of_ones_own_is_taken_once(server: Server) -> None:
    def put(nonce: int) -> httpx.Response:
        return server.http.put("/jobs/order-17.a", json=body_of(nonce))

    first, again = put(1), put(1)
    assert (first.status_code, first.text) == (again.status_code, again.text)
    assert first.headers["location"] == "/jobs/order-17.a"
    assert "preference-applied" not in first.headers
    other = put(2)
    assert (other.status_code, other.json()["code"]) == (409, "conflict")
    assert ended(server.http, "/jobs/order-17.a")["attempts"] == 1
    assert put(1).text == first.text
    assert server.http.put("/jobs/no%20name", json=body_of()).status_code == 400
    assert server.http.put("/jobs/x", content=b"x").status_code == 415


def test_an_idempotency_key_makes_one_job(server: Server) -> None:
    def post(nonce: int, key: str = '"8e03-1"') -> httpx.Response:
        headers = {**ASYNC, "idempotency-key": key}
        return server.http.post("/predict", json=body_of(nonce), headers=headers)

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: post(1), range(24)))
    accepted = [answer for answer in answers if answer.status_code == 202]
    refused = [answer for answer in answers if answer.status_code != 202]
    assert len({answer.text for answer in accepted}) == 1
    assert {(one.status_code, one.headers["retry-after"]) for one in refused} <= {(409, "1")}
    assert post(1, "8e03-1").text == accepted[0].text  # bare, as many clients send it
    other = post(2)
    assert (other.status_code, other.json()["code"]) == (422, "invalid_input")
    assert post(2, "8e03-2").status_code == 202
    assert post(1, "a" * 256).status_code == 400
    ended(server.http, accepted[0].headers["location"])
    assert post(1).text == accepted[0].text


def test_what_the_model_refuses_fails_at_once_and_says_why(server: Server) -> None:
    job = submit(server, headers={"job-max-attempts": "9"}, act="nonsense")
    found = ended(server.http, job)
    assert (found["state"], found["attempts"]) == ("failed", 1)
    assert found["error"]["code"] == "invalid_input"
    assert found["error"]["where"] == "$.input_data[0].act"
    at_once = server.predict("trick_model", [{"nonce": 1, "act": "nonsense"}])
    fetched = server.http.get(f"{job}/result")
    assert fetched.status_code == at_once.status_code == 422
    assert fetched.json()["detail"] == at_once.json()["detail"]


def test_what_fails_is_tried_again_and_then_is_a_dead_letter(server: Server) -> None:
    job = submit(server, act="raise")
    found = ended(server.http, job)
    assert (found["state"], found["attempts"], found["failures"]) == ("failed", 2, 2)
    assert server.http.get(f"{job}/result").json()["code"] == "model_failed"
    dead = server.http.get("/jobs", params={"state": "failed", "model": "trick_model"}).json()
    assert found["id"] in [one["id"] for one in dead["jobs"]]
    again = server.http.post(f"{job}/retry")
    assert (again.status_code, again.json()["state"]) == (200, "queued")
    found = ended(server.http, job)
    assert (found["attempts"], found["failures"]) == (4, 2)
    assert server.http.delete(job).status_code == 204
    assert server.http.get(job).status_code == 404


def test_a_job_waits_until_it_may_and_no_longer_than_it_may(server: Server) -> None:
    later = submit(server, headers={"job-delay": "3600"})
    waiting = server.http.get(later).json()
    assert waiting["state"] == "queued"
    assert waiting["ready_at"] - waiting["created"] == 3600
    not_yet = server.http.get(f"{later}/result")
    assert (not_yet.status_code, not_yet.headers["retry-after"]) == (409, "1")
    late = submit(server, headers={"job-delay": "0.2", "job-expires": "0.3"}, act="answer")
    assert ended(server.http, late)["state"] in ("expired", "succeeded")
    assert server.http.post(f"{later}/cancel").json()["state"] == "cancelled"
    assert server.http.post(f"{later}/cancel").status_code == 409
    assert server.http.get(f"{later}/result").json()["code"] == "conflict"
    for header, value in (("job-delay", "-1"), ("job-priority", "101"), ("job-expires", "x")):
        refused = server.http.post("/predict", json=body_of(), headers={**ASYNC, header: value})
        assert refused.status_code == 400, header


def test_one_that_runs_can_be_cancelled_and_its_runner_goes_on(
    server: Server, tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    job = submit(server, act="wait", diary=str(diary))
    wait_until(diary.exists, what="the job to run")
    assert server.http.get(job).json()["state"] == "running"
    assert server.http.post(f"{job}/cancel").json()["state"] == "cancelled"
    Path(f"{diary}.go").touch()
    assert server.predict("trick_model", [{"nonce": 1}]).status_code == 200
    assert server.http.get(job).json()["state"] == "cancelled"


def test_a_model_is_told_that_its_job_is_cancelled_and_ended_if_it_goes_on(
    server: Server, tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    (runner,) = [one for one in server.runners() if "trick_model" in " ".join(one.cmdline())]
    for act, has_ended in (("heed", False), ("hang", True)):
        diary.unlink(missing_ok=True)
        job = submit(server, act=act, diary=str(diary))
        wait_until(diary.exists, what="the job to run")
        assert server.http.post(f"{job}/cancel").json()["state"] == "cancelled"
        assert server.predict("trick_model", [{"nonce": 2}]).json()["prediction"] == [7]
        assert runner.is_running() is not has_ended
        assert Path(f"{diary}.heeded").exists()
    assert [line["cause"] for line in server.events("runner_lost")] == ["cancelled"]


def test_events_tell_of_each_change_and_go_on_where_they_were(
    server: Server, tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    job = submit(server, 3, act="wait", diary=str(diary), seconds=0.25)
    wait_until(diary.exists, what="the job to run")
    seen = []
    with server.http.stream("GET", f"{job}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.iter_lines()
        for event in events(lines):
            seen.append(event)
            if json.loads(event["data"])["progress"]:
                Path(f"{diary}.go").touch()
    assert [event["event"] for event in seen[-2:]] == ["running", "succeeded"]
    running, done = (json.loads(event["data"]) for event in seen[-2:])
    assert (running["progress"], running["progress_message"]) == (0.25, "waiting")
    assert (done["state"], done["progress"]) == ("succeeded", 1.0)
    resumed = server.http.get(f"{job}/events", headers={"last-event-id": seen[0]["id"]})
    assert [event["id"] for event in events(resumed.text.splitlines())] == [seen[-1]["id"]]
    done = server.http.get(f"{job}/events", headers={"last-event-id": seen[-1]["id"]})
    assert (done.status_code, done.text) == (204, "")


def events(lines: Any) -> Iterator[dict[str, str]]:
    event: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if line and name:
            event[name] = value
        elif event:
            yield event
            event = {}


def test_jobs_are_listed_page_by_page(server: Server) -> None:
    made = [submit(server, nonce).rpartition("/")[2] for nonce in range(5)]
    found: list[str] = []
    page: dict[str, Any] = {"next": None}
    while not set(made) <= set(found):
        after = {} if page["next"] is None else {"after": page["next"]}
        page = server.http.get("/jobs", params={"limit": 2, **after}).json()
        found += [job["id"] for job in page["jobs"]]
    assert [one for one in found if one in made] == list(reversed(made))
    assert server.http.get("/jobs", params={"state": "nonsense"}).status_code == 422


def test_what_is_no_model_is_refused_at_once(server: Server) -> None:
    answer = server.http.post(
        "/predict", json={"model_name": "nobody", "input_data": [1]}, headers=ASYNC
    )
    assert (answer.status_code, answer.json()["code"]) == (404, "model_not_found")
    assert server.http.get("/jobs/nobody").json()["code"] == "job_not_found"


def test_jobs_go_on_where_a_server_was_killed(tmp_path: Path) -> None:
    settings = Store(tmp_path).settings
    diary = tmp_path / "diary"
    with Server(TRICK, settings=settings) as first:
        wait_until(lambda: first.http.get("/readyz").status_code == 200, what="the model")
        running = submit(first, 1, act="wait", diary=str(diary))
        wait_until(diary.exists, what="the job to run")
        queued = [submit(first, nonce, headers={"job-delay": "1"}) for nonce in range(2, 30)]
        first.process.kill()
        first.process.wait()
    # Its lease would end in half a minute, and nobody wants to wait for that here.
    engine = open_engine(f"sqlite:///{tmp_path / 'modelyard.db'}")
    with engine.begin() as connection:
        held = JOBS.update().where(JOBS.c.state == "running")
        assert connection.execute(held.values(lease_until=0.0)).rowcount >= 1
    engine.dispose()
    Path(f"{diary}.go").touch()
    with Server(TRICK, settings=settings) as second:
        for nonce, job in enumerate([running, *queued], start=1):
            assert ended(second.http, job)["state"] == "succeeded"
            assert second.http.get(f"{job}/result").json()["prediction"] == [nonce * 3 + 1]


def test_a_server_that_is_told_to_stop_lets_its_jobs_be_finished(
    tmp_path: Path,
) -> None:
    settings = Store(tmp_path).settings
    diary = tmp_path / "diary"
    with Server(TRICK, settings=settings) as first:
        wait_until(lambda: first.http.get("/readyz").status_code == 200, what="the model")
        job = submit(first, 1, act="wait", diary=str(diary))
        wait_until(diary.exists, what="the job to run")
        with ThreadPoolExecutor(1) as threads:
            stopped = threads.submit(first.stop)
            wait_until(_refuses(first), what="it to stop")
            Path(f"{diary}.go").touch()
            assert stopped.result() == 0
    with Server(TRICK, settings=settings) as second:
        found = second.http.get(job).json()
        assert (found["state"], found["attempts"]) == ("succeeded", 1)


def _refuses(server: Server) -> Callable[[], bool]:
    def look() -> bool:
        try:
            return httpx.get(f"{server.url}/healthz").status_code != 200
        except httpx.TransportError:
            return True

    return look


def test_what_no_job_is_made_of_is_answered(tmp_path: Path) -> None:
    settings = Store(tmp_path / "state").settings
    with Server(write_chatting(tmp_path / "models"), settings=settings) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the models")
        for path, body in (
            ("embeddings", {"model": "embedder", "input": "a"}),
            ("completions", {"model": "typist", "prompt": "a"}),
        ):
            answer = server.http.post(f"/v1/{path}", json=body, headers=ASYNC)
            assert (answer.status_code, answer.json()["model"]) == (200, body["model"])
        assert server.http.get("/jobs").json()["jobs"] == []


def test_without_a_store_a_request_that_prefers_a_job_is_answered(tmp_path: Path) -> None:
    with Server(TRICK, settings={"MODELYARD_STATE_FOLDER": str(tmp_path)}) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
        answer = server.http.post("/predict", json=body_of(2), headers=ASYNC)
        assert (answer.status_code, answer.json()["prediction"]) == (200, [7])
        assert "preference-applied" not in answer.headers
        refused = server.http.put("/jobs/mine", json=body_of())
        assert refused.status_code == 404
        assert "store upgrade" in refused.json()["detail"]
        for path in ("/jobs", "/jobs/mine/result", "/batches", "/batches/mine"):
            refused = server.http.get(path)
            assert (refused.status_code, refused.json()["code"]) == (404, "job_not_found"), path
            assert "store upgrade" in refused.json()["detail"]
        assert server.http.post("/batches").json()["code"] == "job_not_found"
        refused = server.http.get("/v1/files")
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "job_not_found")
