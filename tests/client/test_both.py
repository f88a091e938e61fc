"""What a caller sees of either client: the same from a real gateway and from the fake one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from modelyard.client import (
    Answer,
    InvalidInput,
    ModelFailed,
    ModelNotFound,
    Retry,
    VersionNotFound,
)
from modelyard.client.testing import FakeModels
from tests.client.either import Connect, Either
from tests.e2e.test_odd_models import write
from tests.support.server import Server, wait_until

DOUBLE = """\
from modelyard import Model

class Served(Model):
    example = [1.0]

    def predict(self, instances: list[float]) -> list[float]:
        if 13.0 in instances:
            raise ValueError("no thirteen")
        return [2 * number for number in instances]
"""


def double(instances: Any) -> Any:
    for at, number in enumerate(instances):
        if not isinstance(number, float | int):
            raise InvalidInput("Expected `float`", where=f"$.input_data[{at}]")
        if number == 13:
            raise ValueError("no thirteen")
    return [2 * number for number in instances]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = write(tmp_path_factory.mktemp("models") / "double", DOUBLE)
    with Server(folder) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
        yield server


Opened = Callable[..., AbstractContextManager[Either]]


@pytest.fixture(params=["gateway", "fake"])
def opened(request: pytest.FixtureRequest, connect: Connect) -> Opened:
    @contextlib.contextmanager
    def open_(**options: Any) -> Iterator[Either]:
        if request.param == "fake":
            arguments = {"transport": FakeModels({"double": double})}
        else:
            arguments = {"url": request.getfixturevalue("server").url}
        with connect(**arguments, **options) as client:
            yield client

    return open_


def test_predictions_come_in_the_order_of_the_instances(opened: Opened) -> None:
    with opened() as client:
        assert client.predict("double", [1, 2.5]) == [2, 5]
        assert client.predict("double", (3,), version="1", timeout_s=5, priority="high") == [6]


def test_an_answer_says_where_it_comes_from(opened: Opened) -> None:
    with opened() as client:
        answer = client.ask("double", [1.5], fresh=True)
    assert isinstance(answer, Answer)
    assert (answer.predictions, answer.model, answer.version) == ([3.0], "double", "1")
    assert answer.request_id
    assert answer.cache == "bypass"


def test_a_nan_reaches_the_model(opened: Opened) -> None:
    with opened() as client:
        assert repr(client.predict("double", [float("nan"), 1.5])) == "[nan, 3.0]"


def test_a_wrong_instance_is_named(opened: Opened) -> None:
    with opened() as client, pytest.raises(InvalidInput, match="Expected `float`") as caught:
        client.predict("double", [1.5, "x"])
    error = caught.value
    assert (error.code, error.where, error.status) == ("invalid_input", "$.input_data[1]", 422)
    assert error.request_id


def test_a_model_that_raises_fails_its_request(opened: Opened) -> None:
    with opened() as client, pytest.raises(ModelFailed, match="raised ValueError") as caught:
        client.predict("double", [13.0])
    assert (caught.value.code, caught.value.status) == ("model_failed", 502)


def test_models_are_described(opened: Opened) -> None:
    with opened() as client:
        (model,) = client.models()
        assert client.model("double").name == model.name == "double"
    (version,) = model.versions
    assert (version.version, version.state, version.is_default) == ("1", "ready", True)


@pytest.mark.parametrize("name", ["nobody", "../models", "..", "a/b", "x" * 300, "é", "?", ""])
def test_an_unknown_model_is_not_found(opened: Opened, name: str) -> None:
    with opened() as client:
        with pytest.raises(ModelNotFound) as caught:
            client.predict(name, [1.0])
        assert caught.value.status == 404
        with pytest.raises(ModelNotFound):
            client.model(name)


def test_an_unknown_version_is_not_found(opened: Opened) -> None:
    with opened() as client, pytest.raises(VersionNotFound):
        client.predict("double", [1.0], version="9")


def test_it_is_ready(opened: Opened) -> None:
    with opened() as client:
        assert client.ready()


@pytest.mark.parametrize("timeout_s", [0, -1.0, float("nan"), float("inf")])
def test_a_timeout_that_makes_no_sense_is_refused(opened: Opened, timeout_s: float) -> None:
    with opened(retry=Retry(attempts=1)) as client, pytest.raises(ValueError, match="timeout_s"):
        client.predict("double", [1.0], timeout_s=timeout_s)


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8000", "ftp://localhost", "http://", "http://localhost:abc"],
)
def test_a_url_that_is_none_of_http_is_refused(connect: Connect, url: str) -> None:
    with pytest.raises(ValueError, match="expected http"):
        connect(url)


def test_schemas_come_with_one_model(connect: Connect, server: Server) -> None:
    with connect(server.url) as client:
        (version,) = client.model("double").versions
    assert version.input_schema == {"type": "array", "items": {"type": "number"}, "minItems": 1}
    assert version.example == [1.0]
    assert version.capacity.runners_ready == 1
