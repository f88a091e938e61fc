"""What a model's author relies on: to refuse an input, to be told of wrong predictions, to take
files, and that what the model raises is nobody else's business.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

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
    check_mistake(run(*ask), "422 invalid_input: the model takes neither bytes nor text")
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
