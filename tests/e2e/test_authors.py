"""What a model's author relies on: to refuse an input, to be told of wrong predictions, to take
files, and that what the model raises is nobody else's business.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import msgspec
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from tests.e2e.test_command_line import check_mistake, run
from tests.e2e.test_odd_models import write
from tests.support.server import Server, wait_until

REFUSES = """\
from modelyard import InvalidInput, Model

class Served(Model):
    example = [1]

    def predict(self, instances: list[int]) -> list[int]:
        for number, instance in enumerate(instances):
            if instance == 13:
                raise InvalidInput("13 is unlucky", instance=number)
            if instance == 14:
                raise OSError("/etc/vault/token: hunter2")
            if instance == 15:
                return ["x"] * len(instances)
        return instances
"""

FILES = """\
from modelyard import Model

class Served(Model):
    example = [b"\\x89PNG"]

    def predict(self, instances: list[bytes]) -> list[bytes]:
        return [instance[:4] for instance in instances]
"""

RENTS = """\
import enum
from typing import Literal
import msgspec
from modelyard import Model

class District(enum.Enum):
    NORTH = "north"
    SOUTH = "south"

class Room(msgspec.Struct):
    kind: Literal["bath", "bed"]

class Home(msgspec.Struct):
    district: District
    rooms: list[Room] = []

class Served(Model):
    def predict(self, instances: list[Home]) -> list[int]:
        return [len(home.rooms) for home in instances]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A model that refuses, one of files, and one of fields with few values."""
    folder = tmp_path_factory.mktemp("models")
    never_cached = "[cache]\nttl_s = 0\n"
    refuses = write(folder / "refuses", REFUSES, never_cached)
    others = [write(folder / "files", FILES, never_cached), write(folder / "rents", RENTS)]
    with Server(refuses, *others) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the models")
        yield server


def test_a_refusal_is_the_caller_s_error_and_not_the_model_s(server: Server) -> None:
    refused = server.predict("refuses", [1, 2, 13])
    assert refused.status_code == 422
    problem = refused.json()
    assert (problem["code"], problem["detail"]) == ("invalid_input", "13 is unlucky")
    assert problem["where"] == "$.input_data[2]"
    labels = {"model": "refuses", "code": "invalid_input"}
    wait_until(lambda: server.metric("modelyard_requests_total", **labels) == 1, what="the count")


def test_others_in_the_batch_of_a_refused_input_are_answered(server: Server) -> None:
    def ask(number: int) -> tuple[int, str | None]:
        answer = server.predict("refuses", [number, 13] if number % 2 else [number])
        return answer.status_code, answer.json().get("where")

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(ask, range(20, 120)))
    assert answers == [(200, None), (422, "$.input_data[1]")] * 50


def test_what_a_model_raises_is_in_the_log_and_not_in_the_answer(server: Server) -> None:
    failed = server.predict("refuses", [14])
    assert (failed.status_code, failed.json()["code"]) == (502, "model_failed")
    assert failed.json()["detail"].startswith("the model raised OSError; see the server")
    assert "hunter2" not in failed.text
    wait_until(lambda: "/etc/vault/token: hunter2" in server.output, what="the log")


def test_a_prediction_of_another_type_is_the_model_s_failure(server: Server) -> None:
    failed = server.predict("refuses", [15])
    assert (failed.status_code, failed.json()["code"]) == (502, "model_failed")
    assert "Expected `int`, got `str`, at prediction[0]" in failed.json()["detail"]


def test_a_model_of_bytes_takes_base64_in_json_and_bytes_in_messagepack(server: Server) -> None:
    file = b"\x89PNG\r\n\x1a\n\x00\xff"
    in_json = server.predict("files", [base64.b64encode(file).decode()])
    assert in_json.json()["prediction"] == [base64.b64encode(file[:4]).decode()]
    body = msgspec.msgpack.encode({"model_name": "files", "input_data": [file]})
    packed = server.http.post(
        "/predict", content=body, headers={"content-type": "application/msgpack"}
    )
    assert msgspec.msgpack.decode(packed.content)["prediction"] == [file[:4]]
    wrong = server.predict("files", ["no base64!"])
    assert (wrong.status_code, wrong.json()["where"]) == (422, "$.input_data[0]")


def test_the_command_line_sends_a_file_as_it_is(server: Server, tmp_path: Path) -> None:
    (tmp_path / "blue.png").write_bytes(b"\x89PNG\r\n\x1a\n\x00\xff")
    ask = ("predict", "files", f"@{tmp_path / 'blue.png'}", "--url", server.url)
    expected = json.dumps([base64.b64encode(b"\x89PNG").decode()])
    for more in ((), ("--version", "1"), ("--timeout-s", "5")):
        assert run(*ask, *more).stdout.strip() == expected
    check_mistake(run(*ask, "--version", "2"), "404 version_not_found")
    ask = ("predict", "refuses", *ask[2:])
    check_mistake(run(*ask), "422 invalid_input: Expected `int`, got `bytes` at $.input_data[0]")
    (tmp_path / "rows.csv").write_bytes(b"\xff")
    check_mistake(run("predict", "files", f"@{tmp_path / 'rows.csv'}"), "rows.csv cannot be read")


@pytest.mark.parametrize(
    ("home", "detail", "place"),
    [
        (
            {"district": "west"},
            'Invalid enum value \'west\'; expected one of "north", "south"',
            "$.input_data[0].district",
        ),
        (
            {"district": "north", "rooms": [{"kind": "bed"}, {"kind": "hall"}]},
            'Invalid enum value \'hall\'; expected one of "bath", "bed"',
            "$.input_data[0].rooms[1].kind",
        ),
    ],
)
def test_422_for_an_enum_names_the_allowed_values(
    server: Server, home: object, detail: str, place: str
) -> None:
    refused = server.predict("rents", [home])
    assert refused.status_code == 422
    assert (refused.json()["detail"], refused.json()["where"]) == (detail, place)


LEAKS = """\
import os
from modelyard import Model

def leak():
    raise RuntimeError("401 for https://hub/?token=" + os.environ["HUB_TOKEN"])

class Served(Model):
    example = ["a"]

    def load(self) -> None:
        "load"

    def warm_up(self) -> None:
        "warm_up"

    def predict(self, instances: list[str]) -> list[str]:
        "predict"
        return instances
"""
HUB = '[environment]\nsecrets = ["HUB_TOKEN"]\n'
TOKEN = "s3cr3t"


def over_grpc(server: Server, name: str) -> str:
    """Ask by gRPC; returns what the error says."""
    sent = triton.InferInput("instances", [1], "BYTES")
    sent.set_data_from_numpy(np.array(["a"], dtype=object))
    with triton.InferenceServerClient(server.grpc_address) as client:
        with pytest.raises(InferenceServerException) as caught:
            client.infer(name, [sent])
        index = client.get_model_repository_index()
    assert caught.value.status() == str(grpc.StatusCode.UNAVAILABLE)
    return f"{caught.value} {index}"


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("load", "RuntimeError; see the server's log"),
        ("warm_up", "RuntimeError; see the server's log"),
        ("predict", "the model's own example: RuntimeError; see the server's log"),
    ],
)
def test_what_a_model_raises_while_it_loads_is_in_the_log_and_reaches_no_caller(
    tmp_path: Path, where: str, told: str
) -> None:
    folder = write(tmp_path / "leak", LEAKS.replace(f'"{where}"', "leak()"), HUB)
    settings = {"HUB_TOKEN": TOKEN, "MODELYARD_GRPC_PORT": "0"}
    with Server(folder, settings=settings) as server:
        wait_until(lambda: "failed     leak/1" in server.output, what="the failure")
        refused = server.predict("leak", ["a"])
        assert (refused.status_code, refused.json()["code"]) == (503, "model_not_ready")
        assert refused.json()["detail"] == f"leak/1 is failed: {told}"
        assert server.http.get("/readyz").json()["models"] == {"leak/1": f"failed: {told}"}
        v2 = {"inputs": [{"name": "a", "shape": [1], "datatype": "BYTES", "data": ["a"]}]}
        answers = [
            *(refused, server.http.get("/readyz"), server.http.get("/models")),
            server.http.get("/models/leak"),
            server.http.post("/v2/models/leak/infer", json=v2),
            server.http.get("/v2/models/leak/ready"),
            server.http.post("/v2/repository/index"),
            server.http.post("/v2/repository/models/leak/load"),
            server.http.post("/models/leak/load"),
        ]
        assert TOKEN not in " ".join(answer.text for answer in answers)
        by_grpc = over_grpc(server, "leak")
        assert told in by_grpc
        assert TOKEN not in by_grpc
        reason = f"RuntimeError: 401 for https://hub/?token={TOKEN} (src/model.py:5)"
        lines = server.output.splitlines()
        shown = next(line for line in lines if line.startswith("failed "))
        assert reason in shown, "the operator's terminal has all of it"
        assert reason in next(line for line in lines if '"event":"runner_lost"' in line)


def test_callers_are_told_what_loading_raised_where_that_is_wanted(tmp_path: Path) -> None:
    folder = write(tmp_path / "leak", LEAKS.replace('"load"', "leak()"), HUB)
    settings = {"HUB_TOKEN": TOKEN, "MODELYARD_SHOW_MODEL_ERRORS": "true"}
    with Server(folder, settings=settings) as server:
        wait_until(lambda: "failed     leak/1" in server.output, what="the failure")
        detail = server.predict("leak", ["a"]).json()["detail"]
        reason = f"RuntimeError: 401 for https://hub/?token={TOKEN} (src/model.py:5)"
        assert detail == f"leak/1 is failed: {reason}"


CHATTY = """\
import logging
from modelyard import Model

class Served(Model):
    def predict(self, instances: list[int]) -> list[int]:
        for number in range(400):
            print("instance", number)
            logging.getLogger("mine").error("instance %d", number)
        raise ValueError("no weights for 7")
"""


def test_a_model_that_prints_much_does_not_lose_its_own_traceback(tmp_path: Path) -> None:
    with Server(write(tmp_path / "chatty", CHATTY)) as server:
        for number in range(3):
            headers = {"x-request-id": f"asked-{number}"}
            assert server.predict("chatty", [number], headers=headers).status_code == 502

        def traces() -> list[dict[str, object]]:
            return [line for line in server.events("model_output") if "trace" in line]

        wait_until(lambda: len(traces()) == 3, what="the tracebacks")
        assert [line["ids"] for line in traces()] == [[f"asked-{number}"] for number in range(3)]
        assert all("ValueError: no weights for 7" in str(line["trace"]) for line in traces())

        def dropped() -> list[dict[str, object]]:
            lines = server.events("model_output")
            return [line for line in lines if "lines were dropped" in str(line["text"])]

        wait_until(dropped, what="the count of those that were dropped")
        assert not any("ids" in line for line in dropped())


BROKEN = """\
from modelyard import Model

class Served(Model):
    def load(self) -> None:
        print("looking for weights")
        why = (self.assets / "why").read_text()
        raise ValueError(f"{why}, said {object()}")

    def predict(self, instances: list[int]) -> list[int]:
        return instances
"""


def test_a_model_that_cannot_load_says_why_once_and_then_in_a_line_per_retry(
    tmp_path: Path,
) -> None:
    folder = write(tmp_path / "broken", BROKEN)
    (folder / "assets").mkdir()
    why = folder / "assets" / "why"
    why.write_text("no weights")
    with Server(folder) as server:

        def lost() -> list[dict[str, object]]:
            return server.events("runner_lost")

        def traces(text: str) -> int:
            lines = server.events("model_output")
            return sum(f"ValueError: {text}" in str(line.get("trace")) for line in lines)

        wait_until(lambda: len(lost()) >= 4, what="three retries")
        assert traces("no weights") == 1
        assert [line["failed_loads"] for line in lost()[:4]] == [1, 2, 3, 4]
        assert [line["retry_in_s"] for line in lost()[:4]] == [0.5, 1.0, 2.0, 4.0]
        assert all("ValueError: no weights" in str(line["how"]) for line in lost())
        printed = [line["text"] for line in server.events("model_output")]
        assert printed.count("looking for weights") == 1
        why.write_text("damaged weights")
        wait_until(lambda: traces("damaged weights"), what="the other reason")
        assert traces("no weights") == 1
