"""Models as tools of agents, asked by the client of MCP's own SDK."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.support.identities import write_others
from tests.support.keys import Keys
from tests.support.server import Server, wait_until

OWN, OTHERS, NOBODYS = "people", "sums", "nothing"
ADA = {"input_data": [{"name": "Ada", "age": 36}]}
SCOPES = {"own": ("predict:people",), "reader": ("read",), "admin": ("admin",)}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module")
def texts(keys: Keys) -> dict[str, str]:
    """Each kind of key."""
    texts = {name: keys.create(name, *scopes, owner=name) for name, scopes in SCOPES.items()}
    few = ("--rate", "0.01", "--burst", "1")
    return {**texts, "seldom": keys.create("seldom", "predict:people", more=few)}


@pytest.fixture(scope="module")
def server(
    keys: Keys, texts: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = write_others(tmp_path_factory.mktemp("models"))
    settings = {"MODELYARD_MCP": "true", "MODELYARD_CORS_ORIGINS": "https://known.example"}
    with Server(folder, settings={**keys.settings, **settings}) as server:
        server.http.headers["x-api-key"] = texts["admin"]
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the models")
        yield server


@asynccontextmanager
async def agent(server: Server, key: str, *, mode: str = "auto") -> AsyncIterator[Client]:
    """Connect as somebody who has this key."""
    headers = {"authorization": f"Bearer {key}", "prefer": "respond-async"}
    async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
        transport = streamable_http_client(f"{server.url}/mcp", http_client=http)
        async with Client(transport, mode=mode) as client:
            yield client


async def names_of(client: Client) -> list[str]:
    return [tool.name for tool in (await client.list_tools()).tools]


async def call(client: Client, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the answer, or the problem."""
    result = await client.call_tool(name, arguments)
    (content,) = result.content
    assert content.type == "text"
    told: dict[str, Any] = json.loads(content.text)
    assert result.is_error == ("code" in told)
    assert result.structured_content == (None if result.is_error else told)
    return told


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_an_agent_finds_a_model_and_asks_it(
    server: Server, texts: dict[str, str], mode: str
) -> None:
    async with agent(server, texts["admin"], mode=mode) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert list(tools) == [OWN, OTHERS]  # of each model the version that answers by default
        asked = tools[OWN].input_schema
        assert asked["properties"]["input_data"]["items"] == {"$ref": "#/$defs/Person"}
        assert set(asked["$defs"]["Person"]["properties"]) == {"name", "age", "tags"}
        (example,) = tools[OTHERS].input_schema["properties"]["input_data"]["examples"]
        answer = await call(client, OWN, ADA)
        greeting = {"text": "Hello Ada", "letters": 3, "pieces": ["36"]}
        assert answer == {"model_name": OWN, "model_version": "1", "prediction": [greeting]}
        for version, more in (("2", {}), ("1", {"model_version": "1"})):
            sums = await call(client, OTHERS, {"input_data": example, **more})
            assert sums["model_version"] == version


async def test_an_agent_is_told_what_is_wrong(server: Server, texts: dict[str, str]) -> None:
    async with agent(server, texts["admin"]) as client:
        for arguments, code, where in (
            (
                {"input_data": [{"name": "Ada", "age": "old"}]},
                "invalid_input",
                "$.input_data[0].age",
            ),
            ({"input_data": [{"name": "nobody"}]}, "invalid_input", "$.input_data[0]"),
            ({}, "invalid_input", "$"),
            ({**ADA, "more": 1}, "invalid_input", "$"),
            ({**ADA, "timeout_s": -1}, "malformed", "$.timeout_s"),
            ({"input_data": [{"name": "broken"}]}, "model_failed", None),
            (
                {"input_data": [{"name": "late", "age": 500}], "timeout_s": 0.1},
                "deadline_exceeded",
                None,
            ),
        ):
            told = await call(client, OWN, arguments)
            assert (told["code"], told.get("where")) == (code, where), told
        told = await call(client, OWN, {**ADA, "model_version": "7"})
        assert told["code"] == "version_not_found"
        for name in (NOBODYS, "", "../people", "people/versions/1"):
            assert (await call(client, name, ADA))["code"] == "model_not_found"


async def test_each_kind_of_key_has_the_tools_that_it_may_see(
    server: Server, texts: dict[str, str]
) -> None:
    async with agent(server, texts["own"]) as client:
        assert await names_of(client) == [OWN]
        assert "prediction" in await call(client, OWN, ADA)
        theirs, nobodys = [await call(client, name, ADA) for name in (OTHERS, NOBODYS)]
        assert theirs["code"] == "model_not_found"
        assert theirs["detail"] == nobodys["detail"]
    async with agent(server, texts["reader"]) as client:
        assert await names_of(client) == [OWN, OTHERS]
        assert (await call(client, OWN, ADA))["code"] == "forbidden"
    async with agent(server, texts["seldom"]) as client:
        assert "prediction" in await call(client, OWN, ADA)
        assert (await call(client, OWN, ADA))["code"] == "rate_limited"


def test_who_has_no_key_and_pages_of_other_origins_are_refused(
    server: Server, texts: dict[str, str]
) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    accept = {"accept": "application/json, text/event-stream"}

    def post(key: str, **headers: str) -> int:
        headers |= accept | {"x-api-key": key}
        return server.http.post("/mcp", json=body, headers=headers).status_code

    assert post("") == post("mdy_nothing") == 401
    assert post(texts["own"]) == post(texts["own"], origin="https://known.example") == 200
    assert post(texts["own"], origin=server.url) == 403
    assert server.http.get("/mcp").status_code == 405


def test_without_its_library_it_says_how_to_get_it(tmp_path: Path) -> None:
    folder = write_others(tmp_path)
    code = "import sys; sys.modules['mcp'] = None; from modelyard.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "serve", str(folder), "--mcp", "--port", "0"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "MCP needs a library that is not here: pip install 'modelyard[mcp]'" in done.stderr
