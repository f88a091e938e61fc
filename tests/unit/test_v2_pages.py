"""V2's and V1's calls but inference, for models in whatever state."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec
import pytest

from modelyard.core.messages import Schema, State
from modelyard.core.names import Target
from modelyard.core.verdict import Verdict
from modelyard.dispatch.catalog import Catalog
from modelyard.gateway.app import make_pages
from modelyard.telemetry.metrics import CONTENT_TYPE, Metrics
from modelyard.telemetry.statistics import NONE, statistics_of
from tests.unit.asking import announcement
from tests.unit.contracts import contract_for

TENSORS = contract_for(list[float], list[str]).tensors
SCHEMA = Schema(b'{"type":"array"}', b'{"type":"array"}', b"[1.5]", TENSORS)


class Pages:
    """The pages of a gateway, called from an address."""

    def __init__(self) -> None:
        self.catalog, self.metrics = Catalog(), Metrics()
        self.verdict = Verdict("ready", is_ready=True)
        self.app = make_pages(
            catalog=self.catalog,
            version="1.2.3",
            render_metrics=lambda _="": (self.metrics.render(), CONTENT_TYPE),
            verdict=lambda: self.verdict,
        )

    def announce(self, name: str, state: State = "ready", schema: Schema | None = SCHEMA) -> None:
        known = announcement(Target(name, "1"), state=state, reason="no reason")
        self.catalog.announce(msgspec.structs.replace(known, schema=schema))

    async def ask(self, method: str, path: str, *, host: str = "127.0.0.1") -> httpx.Response:
        transport = httpx.ASGITransport(self.app, client=(host, 4711))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await client.request(method, path)

    async def get(self, path: str) -> httpx.Response:
        return await self.ask("GET", path)


@pytest.fixture
async def pages() -> Pages:
    return Pages()


@pytest.mark.parametrize(
    ("state", "is_ready", "in_index"),
    [
        ("ready", True, "READY"),
        ("recovering", True, "READY"),
        ("asleep", True, "READY"),
        ("starting", False, "LOADING"),
        ("failed", False, "UNAVAILABLE"),
        ("stopped", False, "UNAVAILABLE"),
    ],
)
async def test_a_model_is_ready_if_it_would_answer(
    pages: Pages, state: State, is_ready: bool, in_index: str
) -> None:
    pages.announce("m", state)
    for path in ("/v2/models/m/ready", "/v2/models/m/versions/1/ready", "/v1/models/m"):
        answer = await pages.get(path)
        assert answer.status_code == (200 if is_ready else 503)
        if not is_ready:
            assert answer.json() == {"error": f"m/1 is {state}: no reason"}
            assert answer.headers["retry-after"] == "1"
    (entry,) = (await pages.ask("POST", "/v2/repository/index")).json()
    assert entry == {"name": "m", "version": "1", "state": in_index, "reason": "no reason"}


async def test_a_server_that_is_not_ready_says_so(pages: Pages) -> None:
    pages.verdict = Verdict("draining", is_ready=False)
    answer = await pages.get("/v2/health/ready")
    assert answer.status_code == 503
    assert answer.json() == {"live": True, "ready": False}
    assert (await pages.get("/v2/health/live")).status_code == 200


async def test_metadata_are_never_nothing(pages: Pages) -> None:
    pages.announce("loaded")
    pages.announce("starting", "starting", None)
    pages.announce("asleep", "asleep", None)
    pages.announce("older", schema=Schema(b"{}", b"{}", b"null"))
    assert (await pages.get("/v2/models/loaded")).json() == {
        "name": "loaded",
        "versions": ["1"],
        "platform": "modelyard",
        "inputs": [{"name": "input", "datatype": "FP64", "shape": [-1]}],
        "outputs": [{"name": "output", "datatype": "BYTES", "shape": [-1]}],
    }
    for name, problem in (
        ("starting", "starting/1 is starting: no reason"),
        ("asleep", "asleep/1 is asleep: no reason"),
        ("older", "the workers of older/1 do not say what tensors it takes"),
    ):
        for path in (f"/v2/models/{name}", f"/v2/models/{name}/config"):
            answer = await pages.get(path)
            assert answer.status_code == 503
            assert answer.json() == {"error": problem}


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1", 501), ("::1", 501), ("10.1.2.3", 403), ("no address", 403)],
)
@pytest.mark.parametrize("action", ["load", "unload"])
async def test_only_this_machine_hears_why_a_model_is_not_loaded(
    pages: Pages, action: str, host: str, status: int
) -> None:
    pages.announce("m")
    answer = await pages.ask("POST", f"/v2/repository/models/m/{action}", host=host)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]


def test_statistics_are_read_from_the_metrics() -> None:
    metrics, target = Metrics(), Target("m", "1")
    assert statistics_of(metrics.render()) == {}
    for code in ("ok", "ok", "model_failed"):
        metrics.answered(target, code, 0.5)
    metrics.answered(None, "model_not_found", 0.5)
    metrics.asked_cache(target, "hit")
    metrics.asked_cache(target, "miss")
    metrics.of_pool(target).batch_started([0.25, 0.25])
    found = statistics_of(metrics.render())
    assert found == {
        target: NONE._replace(
            ok=2, failed=1, hits=1, misses=1, request_s=1.5, queued=2, queue_s=0.5
        )
    }


async def test_a_model_that_nobody_asked_has_statistics_of_nothing(pages: Pages) -> None:
    pages.announce("m")
    (found,) = (await pages.get("/v2/models/m/stats")).json()["model_stats"]
    assert found["inference_count"] == 0
    assert found["inference_stats"]["success"] == {"count": 0, "ns": 0}


async def test_a_gateway_without_a_pool_counts_what_it_answered(pages: Pages) -> None:
    pages.announce("m")
    pages.metrics.answered(Target("m", "1"), "ok", 0.5)
    (found,) = (await pages.get("/v2/models/stats")).json()["model_stats"]
    assert found["inference_count"] == found["execution_count"] == 1
    assert found["inference_stats"]["success"] == {"count": 1, "ns": 500_000_000}


async def test_errors_of_other_pages_stay_problem_documents(pages: Pages) -> None:
    answer = await pages.get("/models/nothing")
    assert answer.json()["code"] == "model_not_found"


def references(document: Any) -> set[str]:
    if isinstance(document, list):
        return {name for part in document for name in references(part)}
    if not isinstance(document, dict):
        return set()
    own = {document["$ref"]} if isinstance(document.get("$ref"), str) else set()
    return own | {name for part in document.values() for name in references(part)}


async def test_the_document_has_all_calls_and_refers_to_nothing_that_is_not_there(
    pages: Pages,
) -> None:
    pages.announce("m")
    document = (await pages.get("/openapi.json")).json()
    for path in (
        "/v2",
        "/v2/health/live",
        "/v2/models/{name}",
        "/v2/models/{name}/versions/{version}/infer",
        "/v2/repository/index",
        "/v1/models",
        "/v1/models/{name}:predict",
    ):
        assert path in document["paths"]
    there = {
        f"#/components/{kind}/{name}"
        for kind, parts in document["components"].items()
        for name in parts
    }
    assert references(document) <= there
    infer = document["paths"]["/v2/models/{name}/infer"]["post"]["requestBody"]
    assert infer["content"]["application/json"]["examples"]["m.1"]["value"] == {
        "inputs": [{"name": "input", "datatype": "FP64", "shape": [1], "data": [1.5]}]
    }
