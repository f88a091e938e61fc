"""What lies outside of messages and the database: large inputs and results of jobs, in S3 and in a
folder, and what bulk runs read and write by URL.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import httpx
import msgspec
import numpy as np
import pytest
import sqlalchemy as sa

from modelyard.client import Client
from modelyard.store.schema import open_engine
from modelyard.store.tables import JOB_INPUTS, JOB_RESULTS
from tests.support.broker import Broker
from tests.support.identities import write_identities
from tests.support.jobs import ended
from tests.support.keys import Keys
from tests.support.postgres import Postgres
from tests.support.s3 import S3
from tests.support.server import Member, wait_until

MB = 1_000_000
FORGOTTEN = f"{int(1e9 * 1000):012x}{'0' * 20}"
"""The uid of a job of 2001: whoever took its input was gone before the job was kept."""

ECHO = """\
from modelyard import Model

class Echo(Model):
    def predict(self, instances: list[bytes]) -> list[str]:
        grow = [one[5:] for one in instances if one.startswith(b"grow ")]
        if grow:
            return ["x" * int(grow[0])]
        import hashlib
        return [hashlib.sha256(one).hexdigest() for one in instances]
"""


class Yard(NamedTuple):
    """What runs jobs; ``key`` is its caller's. ``s3``: None where objects are in a folder."""

    server: Member | None
    key: str
    database_url: str
    s3: S3 | None
    folder: Path  # of the objects; in S3 without the bucket

    @property
    def http(self) -> httpx.Client:
        assert self.server is not None
        return self.server.http

    def objects(self) -> list[Path]:
        """Return where the objects of jobs are."""
        if self.s3 is None:
            # `walk`, since folders may go in the meantime.
            return [Path(at, name) for at, _, names in os.walk(self.folder) for name in names]
        return [path for path in map(Path, self.s3.objects()) if path.is_relative_to(self.folder)]

    def replace(self, path: Path, content: bytes | None) -> None:
        """Put something in the place of an object, or nothing."""
        if self.s3 is not None:
            self.s3.put(str(path), content)
        elif content is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def write_echo(folder: Path) -> Path:
    (folder / "echo" / "src").mkdir(parents=True)
    (folder / "echo" / "src" / "model.py").write_text(ECHO)
    manifest = 'name = "echo"\nversion = "1"\nclass = "model:Echo"\n'
    (folder / "echo" / "model.toml").write_text(manifest)
    return folder / "echo"


def is_up(server: Member, name: str) -> bool:
    answer = server.http.get(f"/models/{name}")
    return answer.is_success and answer.json()["versions"][0]["state"] == "ready"


@pytest.fixture(scope="module", params=["cluster", "embedded"])
def yard(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Yard]:
    folder = tmp_path_factory.mktemp("yard")
    models = [write_echo(folder / "models"), write_identities(folder / "models") / "fp32-1"]
    with ExitStack() as stack:
        s3, database_url = None, f"sqlite:///{folder}/modelyard.db"
        settings = {"MODELYARD_JOB_INLINE_BYTES": "100000", "MODELYARD_JOB_MAX_ATTEMPTS": "1"}
        if request.param == "cluster":
            s3 = stack.enter_context(S3())
            database_url = stack.enter_context(Postgres()).url
            broker: Broker = request.getfixturevalue("broker")
            settings |= {"MODELYARD_AMQP_URL": broker.url, **s3.settings}
            settings["MODELYARD_BULK_INPUT_URLS"] = "s3://models/in"
            settings["MODELYARD_BULK_OUTPUT_URLS"] = "s3://models/out/"
        keys = Keys(folder, database_url=database_url)
        keys.run("store", "upgrade")
        key = keys.create("asker", "predict:*")
        named = {**settings, **keys.settings, "MODELYARD_STATE_FOLDER": str(folder)}
        place = folder / "jobs" if s3 is None else Path("registry/jobs")
        Yard(None, "", "", s3, place).replace(place / FORGOTTEN / "input", b"left behind")
        if request.param == "cluster":
            for model in models:
                stack.enter_context(Member("worker", model, settings=settings))
            server = stack.enter_context(Member("gateway", settings=named))
        else:
            server = stack.enter_context(Member("serve", *models, settings=named))
        server.http.headers["x-api-key"] = key
        for name in ("echo", "fp32"):
            wait_until(partial(is_up, server, name), what=name)
        yield Yard(server, key, database_url, s3, place)


def submit(yard: Yard, content: bytes, **headers: str) -> httpx.Response:
    given = {"content-type": "application/octet-stream", "prefer": "respond-async", **headers}
    return yard.http.post("/models/echo/predict", content=content, headers=given)


def test_a_large_input_and_a_large_result_go_by_name(yard: Yard) -> None:
    content = bytes(range(256)) * (12 * MB // 256)  # neither a body nor a message has so much
    job = submit(yard, content)
    assert job.status_code == 202, job.text
    assert ended(yard.http, job.headers["location"])["state"] == "succeeded"
    result = yard.http.get(f"{job.headers['location']}/result")
    assert result.json()["prediction"] == [hashlib.sha256(content).hexdigest()]
    grown = submit(yard, b"grow 10000000").headers["location"]
    assert ended(yard.http, grown)["state"] == "succeeded"
    result = yard.http.get(f"{grown}/result")
    if yard.s3 is not None:
        assert (result.status_code, result.headers["cache-control"]) == (307, "no-store")
        assert "expires" in result.headers["location"].lower()
        result = httpx.get(result.headers["location"])  # as anybody
    assert (result.status_code, result.headers["content-type"]) == (200, "application/json")
    found = result.json()
    assert found == {
        "model_name": "echo",
        "model_version": "1",
        "prediction": ["x" * 10 * MB],
    }
    assert len(yard.objects()) == 2
    engine = open_engine(yard.database_url)
    with engine.connect() as connection:
        for table in (JOB_INPUTS, JOB_RESULTS):
            sizes = connection.execute(sa.select(sa.func.length(table.c.content))).scalars()
            assert max(sizes) < 1000
    engine.dispose()
    for location in (job.headers["location"], grown):
        assert yard.http.delete(location).status_code == 204
    wait_until(lambda: not yard.objects(), what="the objects to go")


def test_every_protocol_gets_a_large_result_in_its_form(yard: Yard) -> None:
    numbers = np.arange(50_000, dtype="float32").reshape(-1, 2)
    async_ = {"prefer": "respond-async"}

    def run(path: str, content: bytes, headers: dict[str, str]) -> httpx.Response:
        job = yard.http.post(path, content=content, headers={**async_, **headers})
        assert job.status_code == 202, job.text
        assert ended(yard.http, job.headers["location"])["state"] == "succeeded"
        result = yard.http.get(f"{job.headers['location']}/result")
        if result.status_code == 307:
            result = httpx.get(result.headers["location"])
        yard.http.delete(job.headers["location"])
        return result

    packed = run(
        "/models/fp32/predict",
        msgspec.msgpack.encode({"input_data": numbers.tolist()}),
        {"content-type": "application/msgpack"},
    )
    assert packed.headers["content-type"] == "application/msgpack"
    answer = msgspec.msgpack.decode(packed.content)
    assert answer["model_name"] == "fp32"
    assert answer["prediction"].data.endswith(numbers.tobytes())  # see docs/http-api.md
    v1 = run("/v1/models/fp32:predict", msgspec.json.encode({"instances": numbers.tolist()}), {})
    assert v1.json() == {"predictions": numbers.tolist()}
    shape = list(numbers.shape)
    binary = {"binary_data_size": numbers.nbytes}
    tensor = {"name": "x", "shape": shape, "datatype": "FP32", "parameters": binary}
    wanted = {"id": "seven", "inputs": [tensor], "parameters": {"binary_data_output": True}}
    head = msgspec.json.encode(wanted)
    length = {"inference-header-content-length": str(len(head))}
    v2 = run("/v2/models/fp32/infer", head + numbers.tobytes(), length)
    size = int(v2.headers["inference-header-content-length"])  # which no signed URL would say
    told = msgspec.json.decode(v2.content[:size])
    assert (told["id"], told["outputs"][0]["shape"]) == ("seven", shape)
    assert v2.content[size:] == numbers.tobytes()


def test_the_client_has_large_results_as_all_others(yard: Yard) -> None:
    numbers = np.arange(100_000, dtype="float32").reshape(-1, 2)
    with Client(str(yard.http.base_url), api_key=yard.key) as client:
        assert (client.submit("fp32", numbers).result() == numbers).all()


@pytest.mark.parametrize("damage", [None, b"another", b"a" * 200_000])
def test_an_input_that_is_gone_or_damaged_fails_its_job(yard: Yard, damage: bytes | None) -> None:
    before = yard.objects()
    job = submit(yard, b"x" * 200_000, **{"job-delay": "6"}).headers["location"]
    (input_,) = (path for path in yard.objects() if path not in before)
    sent = input_.read_bytes() if yard.s3 is None else yard.s3.get(str(input_))
    yard.replace(input_, damage)
    found = ended(yard.http, job)
    assert (found["state"], found["failures"], found["error"]["code"]) == (
        "failed",
        1,
        "object_lost",
    )
    result = yard.http.get(f"{job}/result")
    assert (result.status_code, result.json()["code"]) == (502, "object_lost")
    assert ("damaged" if damage else "not in the object store") in result.json()["detail"]
    yard.replace(input_, sent)
    assert yard.http.post(f"{job}/retry").json()["state"] in ("queued", "running")
    found = ended(yard.http, job)
    assert found["state"] == "succeeded", found


def test_a_result_that_is_gone_is_told_of(yard: Yard) -> None:
    before = yard.objects()
    job = submit(yard, b"grow 200000").headers["location"]
    assert ended(yard.http, job)["state"] == "succeeded"
    (result,) = (path for path in yard.objects() if path not in before)
    yard.replace(result, None)
    answer = yard.http.get(f"{job}/result")
    assert (answer.status_code, answer.json()["code"]) == (502, "object_lost")


def test_what_no_job_needs_is_removed_when_it_is_old(yard: Yard) -> None:
    def is_there() -> bool:
        return any(FORGOTTEN in path.parts for path in yard.objects())

    wait_until(lambda: not is_there(), what="the input of no job to go")


def test_limits_are_those_of_jobs(yard: Yard) -> None:
    """An ordinary request has the limit of all, and a job one of its own."""
    content = b"x" * (9 * MB)
    assert submit(yard, content, prefer="").status_code == 413
    assert submit(yard, b"x" * (100 * MB + 1)).status_code == 413
    job = submit(yard, b"grow 100000001").headers["location"]
    found = ended(yard.http, job)
    assert found["error"]["code"] == "model_failed"
    assert "over the limit of 100000000" in found["error"]["detail"]
    named = {"idempotency-key": "large"}
    kept, again = submit(yard, content, **named), submit(yard, content, **named)
    assert (kept.status_code, again.text) == (202, kept.text)
    other = submit(yard, content[1:], **named)
    assert (other.status_code, other.json()["code"]) == (422, "invalid_input")
    assert ended(yard.http, kept.headers["location"])["state"] == "succeeded"


@pytest.mark.parametrize("yard", ["cluster"], indirect=True)
def test_bulk_runs_read_and_write_where_they_may(yard: Yard) -> None:
    s3 = yard.s3
    assert s3 is not None
    rows = "".join(f"{number},{number + 0.5}\n" for number in range(500))
    for place in ("in/rows.csv", "other/rows.csv"):
        s3.put(place, b"a,b\n" + rows.encode())

    def make(source: str, target: str = "") -> httpx.Response:
        asked = {"model_name": "fp32", "input_url": source, "output_url": target}
        return yard.http.post("/batches", json=asked)

    made = make("s3://models/in/rows.csv", "s3://models/out/deep/predictions.csv")
    assert made.status_code == 202, made.text
    found = ended(yard.http, f"/jobs/{made.json()['id']}")
    assert found["state"] == "succeeded", found
    lines = s3.get("out/deep/predictions.csv").decode().splitlines()
    assert len(lines) == 501
    assert lines[500] == '499,"[499.0,499.5]"'
    output = yard.http.get(f"/batches/{made.json()['id']}/output")
    assert output.text.splitlines() == lines
    for source in (
        "s3://models/other/rows.csv",  # which is there
        "s3://models/in/../other/rows.csv",
        "s3://models/inside.csv",
        "s3://others/in/rows.csv",
        f"{s3.url}/models/in/rows.csv",  # a private address
        "http://169.254.169.254/in/rows.csv",
        "file:///etc/passwd.csv",
        "/etc/passwd.csv",
    ):
        assert make(source).status_code == 422, source
    for target in ("s3://models/in/predictions.csv", "s3://models/outside.csv", "/tmp/x.csv"):
        assert make("s3://models/in/rows.csv", target).status_code == 422, target
    gone = make("s3://models/in/none.csv").json()["id"]
    found = ended(yard.http, f"/jobs/{gone}")
    assert (found["state"], found["attempts"]) == ("failed", 1)
    assert "none.csv" in found["error"]["detail"]


def test_a_store_that_is_away_refuses_what_is_large_and_nothing_else(yard: Yard) -> None:
    """The last one: the store does not come back."""
    result = submit(yard, b"grow 200000").headers["location"]
    assert ended(yard.http, result)["state"] == "succeeded"
    if yard.s3 is not None:
        yard.s3.stop()
    else:
        yard.folder.rename(yard.folder.with_name("moved"))
        yard.folder.touch()
    refused = submit(yard, b"x" * 200_000)
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert int(refused.headers["retry-after"]) > 0
    assert yard.http.get(f"{result}/result").status_code == 503
    small = submit(yard, b"small").headers["location"]
    assert ended(yard.http, small)["state"] == "succeeded"
