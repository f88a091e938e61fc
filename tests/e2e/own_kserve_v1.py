"""KServe's own client against a server by V1, unchanged: `make test-kserve` runs this in an
environment of its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from kserve.errors import UnsupportedProtocol

from tests.e2e.kserve_requests import DATATYPES, rest_client, serving, values
from tests.support.server import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("models")) as server:
        yield server


@pytest.fixture
async def v1() -> AsyncIterator[Any]:
    async with rest_client("v1") as client:
        yield client


@pytest.mark.parametrize("datatype", DATATYPES)
async def test_v1_predicts_with_each_datatype(v1: Any, server: Server, datatype: str) -> None:
    instances = values(datatype).tolist()
    answer = await v1.infer(server.url, {"instances": instances}, datatype.lower())
    assert answer == {"predictions": instances}


async def test_v1_has_objects_and_versions(v1: Any, server: Server) -> None:
    answer = await v1.infer(server.url, {"instances": [{"name": "Zoë"}]}, "people")
    assert answer["predictions"] == [{"text": "Hello Zoë", "letters": 3, "pieces": ["0"]}]
    instances = [{"a": [1.5, -2], "b": [1, 2]}]
    for path, sign in (("sums", -1), ("sums/versions/1", 1)):
        answer = await v1.infer(server.url, {"instances": instances}, path)
        assert answer["predictions"][0]["sum"] == [sign * 2.5, 0]


@pytest.mark.parametrize(
    ("model", "data", "status", "problem"),
    [
        ("nothing", {"instances": [1]}, 404, "no model has this name"),
        ("fp32", {"instances": [[1, 2, 3]]}, 422, r"instances"),
        ("fp32", {"instances": [["1", "2"]]}, 422, r"instances\[0\]"),
        ("fp32", {"inputs": [[1, 2]]}, 422, "instances"),
        ("people", {"instances": [{"name": "nobody"}]}, 422, r"no person \(at instances\[0\]\)"),
        ("people", {"instances": [{"name": "broken"}]}, 502, "the model raised RuntimeError"),
    ],
)
async def test_v1_says_errors(
    v1: Any, server: Server, *, model: str, data: Any, status: int, problem: str
) -> None:
    with pytest.raises(httpx.HTTPStatusError, match=problem) as caught:
        await v1.infer(server.url, data, model)
    assert caught.value.response.status_code == status


async def test_v1_tells_what_is_ready(v1: Any, server: Server) -> None:
    assert await v1.is_model_ready(server.url, "sums") is True
    with pytest.raises(httpx.HTTPStatusError, match="no model has this name") as caught:
        await v1.is_model_ready(server.url, "nothing")
    assert caught.value.response.status_code == 404
    with pytest.raises(UnsupportedProtocol):
        await v1.is_server_ready(server.url)  # V1 has none


async def test_v1_tells_that_the_server_is_live(v1: Any, server: Server) -> None:
    assert await v1.is_server_live(server.url) is True


async def test_explanations_are_refused(v1: Any, server: Server) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="501"):
        await v1.explain(server.url, "fp32", {"instances": [[1, 2]]})
    async with rest_client("v2") as v2:
        with pytest.raises(UnsupportedProtocol):  # V2 has none
            await v2.explain(server.url, "fp32", {})


async def test_that_explanations_are_not_offered_is_said(v1: Any, server: Server) -> None:
    with pytest.raises(httpx.HTTPStatusError) as caught:
        await v1.explain(server.url, "fp32", {"instances": [[1, 2]]})
    assert "expla" in caught.value.response.json()["error"]
