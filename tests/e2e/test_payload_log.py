"""The payload log: what is kept of requests, what is not, and what happens when nothing can be."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from tests.docs.pages import blocks_of, run_python
from tests.support.disk import FILLER, full_disk
from tests.support.keys import Keys
from tests.support.receiver import Receiver
from tests.support.s3 import S3
from tests.support.server import MODELYARD, Server, complaint_of, wait_until

RECORDS = "modelyard_payload_records_total"
PEOPLE = """
import msgspec
from modelyard import Model

class Person(msgspec.Struct):
    name: str
    age: float
    card: str

class Score(msgspec.Struct):
    score: float
    reason: str

class People(Model):
    def predict(self, instances: list[Person]) -> list[Score]:
        return [Score(person.age / 100, f"because of {person.name}") for person in instances]
"""
KEPT = """
url = "kept"
rate = 1.0
chunk_s = 0.2
drop = ["request.card"]

[models.people]
mask = ["request.name", "answer.reason"]
"""
ADA = {"name": "Ada", "age": 36.0, "card": "4111"}
MASKED = {"name": "***", "age": 36.0}


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "people"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "model.py").write_text(PEOPLE)
    text = 'name = "people"\nversion = "1"\nclass = "model:People"\n'
    (folder / "model.toml").write_text(text)
    return folder


def with_log(folder: Path, text: str) -> dict[str, str]:
    """The settings of a server with such a log."""
    (folder / "payload-log.toml").write_text(text)
    return {"MODELYARD_PAYLOAD_LOG_FILE": str(folder / "payload-log.toml")}


def records_in(folder: Path) -> list[dict[str, Any]]:
    """All records of JSON Lines, by time."""
    lines = [line for path in folder.rglob("*.jsonl") for line in path.read_text().splitlines()]
    return sorted(map(json.loads, lines), key=lambda record: str(record["time"]))


def writers_of(server: Server) -> list[psutil.Process]:
    """The processes that write its payload log."""
    found = []
    for child in psutil.Process(server.process.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "modelyard: payload writer" in " ".join(child.cmdline()):
                found.append(child)
    return found


def test_requests_in_every_form_are_kept_masked_and_with_their_keys_owner(
    people: Path, tmp_path: Path
) -> None:
    keys = Keys(tmp_path / "state")
    key = keys.create("ada", "predict:*", "read", owner="Lovelace")
    kept = tmp_path / "kept"
    with Server(people, settings={**keys.settings, **with_log(tmp_path, KEPT)}) as server:
        server.http.headers["authorization"] = f"Bearer {key}"
        wait_until(lambda: server.http.get("/readyz").is_success, what="the model")
        assert server.predict("people", [ADA], headers={"x-request-id": "json"}).is_success
        assert server.predict("people", [{"card": "4111"}]).status_code == 422
        packed = msgspec.msgpack.encode({"model_name": "people", "input_data": [ADA]})
        headers = {"content-type": "application/msgpack"}
        assert server.http.post("/predict", content=packed, headers=headers).is_success
        tensors = [
            {"name": name, "shape": [1], "datatype": kind, "data": [ADA[name]]}
            for name, kind in (("name", "BYTES"), ("age", "FP64"), ("card", "BYTES"))
        ]
        answer = server.http.post("/v2/models/people/infer", json={"inputs": tensors})
        assert answer.is_success, answer.text
        records = wait_until(lambda: (r := records_in(kept))[3:] and r, what="the records")
        assert "Ada" not in str(records)
        assert "4111" not in str(records)
        first, bad, second, third = records
        assert first["request_id"] == "json"
        assert [first[name] for name in ("model", "version", "key", "owner", "status")] == [
            *("people", "1", "ada", "Lovelace", "ok")
        ]
        assert 0 < first["latency_s"] < 60
        assert [r["form"] for r in records] == ["json", "json", "msgpack", "v2"]
        for record in (first, second, third):
            assert record["request"] == [MASKED]
            assert record["answer"] == [{"score": 0.36, "reason": "***"}]
        assert (bad["status"], bad["request"], bad["answer"]) == ("invalid_input", [{}], None)
        wait_until(lambda: server.metric(RECORDS, end="kept") == 4, what="the count")

        # A writer that dies is replaced, and no caller notices.
        (writer,) = writers_of(server)
        writer.kill()
        assert server.predict("people", [{**ADA, "age": 1.0}]).is_success
        wait_until(lambda: (w := writers_of(server)) and w != [writer], what="another writer")
        wait_until(
            lambda: (
                server.predict("people", [ADA]).is_success
                and server.metric(RECORDS, end="kept") > 4
            ),
            what="more records",
        )
        (writer,) = writers_of(server)
        assert server.predict("people", [{**ADA, "age": 99.0}]).is_success
    assert not writer.is_running()
    assert records_in(kept)[-1]["request"] == [{**MASKED, "age": 99.0}]  # kept at the end


@pytest.mark.parametrize("trouble", ["full", "hanging", "refused"])
def test_trouble_of_the_log_fails_no_request_and_is_counted(
    people: Path, tmp_path: Path, trouble: str
) -> None:
    with contextlib.ExitStack() as stack:
        more: dict[str, str] = {}
        if trouble == "full":
            url = str(stack.enter_context(full_disk(tmp_path / "disk")))
        elif trouble == "hanging":
            url = stack.enter_context(Receiver()).url + "/never/hangs"
        else:
            s3 = stack.enter_context(S3())
            url, more = "s3://somebody-elses/bucket", s3.settings
            more.pop("MODELYARD_ARTEFACTS_URL")
        text = f'url = "{url}"\nrate = 1.0\nchunk_s = 0.1\nmemory_mb = 1\ntimeout_s = 0.5\n'
        server = stack.enter_context(Server(people, settings={**more, **with_log(tmp_path, text)}))
        wait_until(lambda: server.http.get("/readyz").is_success, what="the model")
        large = [{**ADA, "name": "A" * 450_000}]

        def ask(number: int) -> bool:
            return server.predict("people", [{**large[0], "age": number}]).is_success

        with ThreadPoolExecutor(4) as threads:
            assert all(threads.map(ask, range(30)))
            wait_until(
                lambda: server.metric("modelyard_payload_log_failing") == 1, what="the trouble"
            )
            wait_until(
                lambda: ask(0) and server.metric(RECORDS, end="full") > 0, what="what is dropped"
            )
        (writer,) = writers_of(server)
        assert writer.memory_info().rss < 200 * 1024 * 1024
        assert server.events("payload_log_failing")
        if trouble == "full":  # there is room again, if not for what is so large
            assert not list(tmp_path.rglob("*.part"))
            (tmp_path / "disk" / FILLER).unlink()
        writer.send_signal(signal.SIGKILL)  # nothing has to be waited for


def test_events_are_those_of_kserves_logger(people: Path, tmp_path: Path) -> None:
    with Receiver() as receiver:
        text = f"""
            url = "{receiver.url}/500-once/events"
            rate = 1.0
            chunk_s = 0.1
            namespace = "team"
            headers = {{ authorization = "Bearer ours" }}
            mask = ["request.name"]
        """
        with Server(people, settings=with_log(tmp_path, text)) as server:
            wait_until(lambda: server.http.get("/readyz").is_success, what="the model")
            assert server.predict("people", [ADA], headers={"x-request-id": "an id"}).is_success
            wait_until(lambda: server.metric(RECORDS, end="kept") == 1, what="the events")
        _, request, response = receiver.received  # the first was refused
        assert request.headers["ce-type"] == "org.kubeflow.serving.inference.request"
        assert response.headers["ce-type"] == "org.kubeflow.serving.inference.response"
        assert request.headers["ce-id"] == response.headers["ce-id"] == "an%20id"
        assert request.headers["ce-inferenceservicename"] == "people"
        assert request.headers["ce-namespace"] == "team"
        assert request.headers["ce-specversion"] == "1.0"
        assert request.headers["authorization"] == "Bearer ours"
        assert json.loads(request.body) == {"instances": [{**ADA, "name": "***"}]}
        assert json.loads(response.body)["predictions"][0]["score"] == 0.36


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("rate = 1.0", "Object missing required field `url`"),
        ('url = "x"\nrate = 2', "rate: Expected `float` <= 1.0"),
        ('url = "x"\nmask = ["name"]', "mask[0]: Expected `str` matching regex"),
        ('url = "x"\nbogus = 1', "Object contains unknown field `bogus`"),
        ("url = ", "Invalid value"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_at_once(
    people: Path, tmp_path: Path, text: str, problem: str
) -> None:
    complaint = complaint_of("serve", people, settings=with_log(tmp_path, text))
    assert problem in complaint
    assert "payload-log.toml" in complaint


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_the_recipe_for_duckdb(people: Path, tmp_path: Path, form: str) -> None:
    text = f'url = "payloads"\nrate = 1.0\nchunk_s = 0.1\nformat = "{form}"\n'
    with Server(people, settings=with_log(tmp_path, text)) as server:
        wait_until(lambda: server.http.get("/readyz").is_success, what="the model")
        for age in range(20):
            assert server.predict("people", [{**ADA, "age": age}]).is_success
        wait_until(lambda: server.metric(RECORDS, end="kept") == 20, what="the records")
    (recipe,) = [text for _, title, text in blocks_of("payload-log.md") if title == f"{form}.py"]
    (tmp_path / "recipe.py").write_text(recipe)
    printed = run_python("recipe.py", folder=tmp_path)
    assert "people" in printed
    assert "20" in printed


def test_drift_is_in_the_metrics_and_on_the_console(people: Path, tmp_path: Path) -> None:
    seed = random.Random(3)
    ages = [seed.gauss(40, 10) for _ in range(400)]
    sample = tmp_path / "sample.jsonl"
    sample.write_text("".join(f"{json.dumps({'age': age})}\n" for age in ages))
    made = [MODELYARD, "drift", "profile", str(sample), "-o", str(tmp_path / "people.json")]
    subprocess.run(made, check=True)
    folk = tmp_path / "folk"  # brings its reference, and the log's file has none for it
    shutil.copytree(people, folk)
    (folk / "model.toml").write_text((people / "model.toml").read_text().replace("people", "folk"))
    shutil.copy(tmp_path / "people.json", folk / "reference.json")
    text = """
        url = "kept"
        rate = 1.0
        chunk_s = 0.1
        drop = ["request.age"]
        [drift]
        window = 200
        [models.people]
        reference = "people.json"
    """
    with Server(people, folk, settings=with_log(tmp_path, text)) as server:
        wait_until(lambda: server.http.get("/readyz").is_success, what="the model")
        wait_until(lambda: server.events("reference_used"), what="the reference of folk")

        def ask(shift: float, model: str = "people") -> None:
            rows = [{**ADA, "age": seed.gauss(40, 10) + shift} for _ in range(200)]
            assert server.predict(model, rows).is_success

        labels = {"model": "people", "version": "1", "feature": "request.age"}
        windows = "modelyard_drift_windows_total"
        ask(0)
        wait_until(lambda: server.metric(windows) == 1, what="a window")
        assert server.metric("modelyard_drift_detected", **labels) == 0
        ask(10)
        wait_until(lambda: server.metric(windows) == 2, what="another window")
        assert server.metric("modelyard_drift_detected", **labels) == 1
        assert server.metric("modelyard_drift", **labels, figure="psi") > 0.2
        ask(10, "folk")
        wait_until(lambda: server.metric(windows, model="folk") == 1, what="a window of folk")
        of_folk = {**labels, "model": "folk"}
        assert server.metric("modelyard_drift_detected", **of_folk) == 1
        page = server.http.get("/console/models/people").text
        assert "1 of 1 features" in page
        assert "<code>request.age</code>" in page
    assert all("age" not in row for r in records_in(tmp_path / "kept") for row in r["request"])
