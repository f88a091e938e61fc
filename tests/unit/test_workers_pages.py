"""The pages of a gateway of a cluster: workers, what waits for them, what they are asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest

from modelyard.core.demand import Demand
from modelyard.core.messages import Member, Schema
from modelyard.core.names import Target
from modelyard.core.verdict import Verdict
from modelyard.dispatch.catalog import Catalog
from modelyard.gateway.app import make_pages
from tests.unit.asking import announcement

SCHEMA = Schema(b'{"type":"array"}', b'{"$defs":{"A":{"type":"integer"}}}', b"[1]")


class Workers:
    """What a gateway knows of one worker."""

    def members(self, target: Target) -> list[Member]:
        return [Member("w1", "host", "ready", "", 2, 1)]

    def queued(self, target: Target) -> int | None:
        return 7

    def demand(self, target: Target) -> Demand:
        return Demand(runners=1.5, instances=3, instance_s=0.5, target_wait_s=1.0)


def fail(accept: str = "") -> tuple[bytes, str]:
    raise ValueError("a defect")


@pytest.fixture
def catalog() -> Catalog:
    catalog = Catalog()
    catalog.announce(announcement())
    catalog.announce(announcement(Target("iris", "2"), state="failed", reason="no such file"))
    return catalog


@pytest.fixture
async def http(catalog: Catalog) -> AsyncIterator[httpx.AsyncClient]:
    app = make_pages(
        catalog=catalog,
        version="1.2.3",
        render_metrics=fail,
        verdict=lambda: Verdict("ready", is_ready=True),
        workers=Workers(),
    )
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        yield client


async def test_models_are_listed_with_what_serves_them(http: httpx.AsyncClient) -> None:
    (model,) = (await http.get("/models")).json()["models"]
    newest, first = model["versions"]
    assert (model["name"], newest["version"], newest["reason"]) == ("iris", "2", "no such file")
    assert first["is_default"]
    assert first["capacity"]["queued"] == 7
    assert first["workers"][0] == {
        "name": "w1",
        "host": "host",
        "state": "ready",
        "reason": "",
        "runners": 2,
        "runners_ready": 1,
    }


async def test_a_model_that_was_never_loaded_has_no_schemas(http: httpx.AsyncClient) -> None:
    versions = (await http.get("/models/iris")).json()["versions"]
    assert [v["input_schema"] for v in versions] == [None, None]
    problem = (await http.get("/models/rose", headers={"x-request-id": "r1"})).json()
    assert (problem["code"], problem["request_id"]) == ("model_not_found", "r1")


async def test_a_model_that_was_loaded_has_them(catalog: Catalog, http: httpx.AsyncClient) -> None:
    before = (await http.get("/openapi.json")).json()
    body = before["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"] == {}  # no model has said yet what it takes
    catalog.announce(msgspec.structs.replace(announcement(), schema=SCHEMA))
    version = (await http.get("/models/iris")).json()["versions"][1]
    assert (version["input_schema"], version["example"]) == ({"type": "array"}, [1])
    after = (await http.get("/openapi.json")).json()
    assert after["components"]["schemas"]["iris.1.output.A"] == {"type": "integer"}
    assert after == (await http.get("/openapi.json")).json()


async def test_demand_is_told_for_an_autoscaler(http: httpx.AsyncClient) -> None:
    demand = (await http.get("/models/iris/versions/1/demand")).json()
    assert demand == {"runners": 1.5, "instances": 3, "instance_s": 0.5, "target_wait_s": 1.0}
    problem = (await http.get("/models/iris/versions/9/demand")).json()
    assert problem["code"] == "version_not_found"


async def test_the_process_is_alive(http: httpx.AsyncClient) -> None:
    assert (await http.get("/healthz")).json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("POST", "/models", 405, "method_not_allowed"),
        ("GET", "/metrics", 500, "internal"),
    ],
)
async def test_what_cannot_be_answered_is_a_problem(
    http: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    answer = await http.request(method, path)
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert answer.headers["x-request-id"] == problem["request_id"]
    if status == 405:
        assert answer.headers["allow"] == "GET, HEAD"
