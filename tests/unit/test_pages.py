"""All that FastAPI answers: the start page, models, probes and the OpenAPI document."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from modelyard.core.manifest import Limits
from modelyard.core.messages import Announcement, Schema, State
from modelyard.core.names import Target
from modelyard.core.verdict import Verdict
from modelyard.dispatch.catalog import Catalog
from modelyard.gateway.app import make_pages
from modelyard.gateway.problems import STATUS

NUMBERS = b'{"type": "array", "minItems": 1, "items": {"type": "number"}}'
METRICS = "text/plain; version=0.0.4; charset=utf-8"


def exactly(length: int, item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "minItems": length, "maxItems": length, "items": item}


IMAGE = Schema(
    input=json.dumps(
        {"type": "array", "items": exactly(3, exactly(224, exactly(224, {"type": "number"})))}
    ).encode(),
    output=json.dumps({"type": "array", "items": exactly(1000, {"type": "number"})}).encode(),
    example=json.dumps([[[[0.123456789] * 224] * 224] * 3]).encode(),
)


class Pages:
    """The pages of a gateway that knows some models."""

    def __init__(self) -> None:
        self.catalog, self.verdict = Catalog(), Verdict("ready", is_ready=True)
        self.app = app = make_pages(
            catalog=self.catalog,
            version="1.2.3",
            render_metrics=lambda _="": (b"a 1\n", METRICS),
            verdict=lambda: self.verdict,
        )
        transport = httpx.ASGITransport(app)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://x")

    def announce(
        self,
        name: str,
        state: State = "ready",
        *,
        schema: Schema | None = Schema(NUMBERS, NUMBERS, b"[1.5]"),  # noqa: B008
        reason: str = "",
    ) -> None:
        """Let a model be known."""
        self.catalog.announce(
            Announcement(
                target=Target(name, "1"),
                state=state,
                description=f"About {name}.",
                limits=Limits(),
                cache_ttl_s=0,
                max_batch_size=1,
                runners=1,
                runners_ready=1,
                schema=schema,
                reason=reason,
            )
        )

    async def document(self) -> dict[str, Any]:
        """The OpenAPI document."""
        document: dict[str, Any] = (await self.http.get("/openapi.json")).json()
        return document


@pytest.fixture
async def pages() -> AsyncIterator[Pages]:
    pages = Pages()
    async with pages.http:
        yield pages


async def test_the_start_leads_on_for_programs_and_for_people(pages: Pages) -> None:
    links = (await pages.http.get("/")).json()
    assert links.pop("name") == "Modelyard"
    assert links.pop("version") == "1.2.3"
    assert links.pop("predict") == "/predict"
    assert links.pop("status") == "alive"
    for path in links.values():
        assert (await pages.http.get(path)).status_code == 200
    browser = "text/html,application/xhtml+xml,*/*;q=0.8"
    page = await pages.http.get("/", headers={"accept": browser})
    assert page.headers["content-type"].startswith("text/html")
    for path in ("docs", "models", "readyz", "metrics"):
        assert f'href="{path}"' in page.text


async def test_ready_is_degraded_while_a_model_has_failed(pages: Pages) -> None:
    pages.announce("good")
    answer = await pages.http.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "ready")
    pages.announce("bad", "failed", reason="no such file")
    answer = await pages.http.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "degraded",
        "models": {"bad/1": "failed: no such file", "good/1": "ready"},
    }


@pytest.mark.parametrize(
    ("verdict", "status"),
    [
        (Verdict("degraded", is_ready=True), 200),
        (Verdict("no model is up", is_ready=False), 503),
        (Verdict("draining", is_ready=False), 503),
    ],
)
async def test_the_verdict_decides_whether_requests_should_come(
    pages: Pages, verdict: Verdict, status: int
) -> None:
    pages.announce("bad", "failed")
    pages.verdict = verdict
    answer = await pages.http.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (status, verdict.status)
    assert answer.headers["x-request-id"]
    answer = await pages.http.get("/models", headers={"x-request-id": "mine"})
    assert (answer.status_code, answer.headers["x-request-id"]) == (200, "mine")


async def test_an_example_is_a_whole_request(pages: Pages) -> None:
    pages.announce("image", schema=IMAGE)
    answer = await pages.http.get("/models/image/example")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"model_name": "image", "input_data": json.loads(IMAGE.example)}


async def test_no_example_is_a_problem(pages: Pages) -> None:
    pages.announce("shy", schema=Schema(NUMBERS, NUMBERS, b"null"))
    pages.announce("new", "starting", schema=None)
    for name in ("shy", "new"):
        problem = (await pages.http.get(f"/models/{name}/example")).json()
        assert (problem["status"], problem["code"]) == (404, "not_found")
        assert f"{name}/1 has no example" in problem["detail"]
    problem = (await pages.http.get("/models/nobody/example")).json()
    assert problem["code"] == "model_not_found"
    for path in ("/nowhere", "/mcp"):  # which is off unless it is wanted
        assert "/docs" in (await pages.http.get(path)).json()["detail"]


async def test_the_document_is_short_whatever_models_take(pages: Pages) -> None:
    of_none = (await pages.http.get("/openapi.json")).text
    for number in range(49):
        pages.announce(f"numbers_{number}")
    pages.announce("image", schema=IMAGE)
    text = (await pages.http.get("/openapi.json")).text
    assert len(text) - len(of_none) < 50 * 2_000  # at /predict and at its own address
    assert "224 items" in text
    assert '"minItems":224' not in text


async def test_examples_are_named_by_their_model_and_whole_ones_come_first(pages: Pages) -> None:
    pages.announce("image", schema=IMAGE)
    pages.announce("numbers")
    post = (await pages.document())["paths"]["/predict"]["post"]
    examples = post["requestBody"]["content"]["application/json"]["examples"]
    assert list(examples) == ["numbers.1", "image.1"]
    assert examples["numbers.1"]["summary"] == "numbers/1: About numbers."
    assert examples["numbers.1"]["value"] == {"model_name": "numbers", "input_data": [1.5]}
    assert "in full: GET /models/image/example" in examples["image.1"]["summary"]


async def test_the_document_follows_the_models(pages: Pages) -> None:
    assert "late.1.request" not in (await pages.document())["components"]["schemas"]
    pages.announce("late")
    assert "late.1.request" in (await pages.document())["components"]["schemas"]


FILES = Schema(
    json.dumps(
        {"type": "array", "items": {"type": "string", "contentEncoding": "base64"}}
    ).encode(),
    NUMBERS,
    b'["iVBORw=="]',
)
TEXTS = Schema(b'{"type":"array","items":{"type":"string"}}', NUMBERS, b"null")
KINDS = ["application/json", "application/msgpack"]


def taken(document: dict[str, Any], path: str) -> dict[str, Any]:
    """The bodies that a path takes, by their types."""
    content: dict[str, Any] = document["paths"][path]["post"]["requestBody"]["content"]
    return content


async def test_each_model_has_its_own_address_in_the_document(pages: Pages) -> None:
    before = await pages.document()
    assert not any(path.endswith("}/predict") for path in before["paths"])
    pages.announce("numbers")
    pages.announce("image", schema=IMAGE)
    document = await pages.document()
    bodies = taken(document, "/models/numbers/predict")
    assert list(bodies) == KINDS
    assert bodies["application/json"] == {
        "schema": {"$ref": "#/components/schemas/numbers.1.request"},
        "example": {"input_data": [1.5]},
    }
    assert document["components"]["schemas"]["numbers.1.request"]["required"] == ["input_data"]
    (answer,) = (
        document["paths"]["/models/numbers/predict"]["post"]["responses"]["200"]["content"][kind]
        for kind in KINDS[:1]
    )
    assert answer["schema"] == {"$ref": "#/components/schemas/numbers.1.answer"}
    assert "example" not in taken(document, "/models/image/predict")["application/json"]
    of_version = taken(document, "/models/{name}/versions/{version}/predict")
    assert of_version["application/json"]["schema"] == {
        "anyOf": [
            {"$ref": "#/components/schemas/image.1.request"},
            {"$ref": "#/components/schemas/numbers.1.request"},
        ]
    }
    at_predict = taken(document, "/predict")["application/json"]["schema"]["anyOf"]
    assert [choice["required"] for choice in at_predict] == [["model_name"]] * 2


async def test_models_of_files_and_texts_take_them_as_they_are(pages: Pages) -> None:
    pages.announce("files", schema=FILES)
    pages.announce("texts", schema=TEXTS)
    pages.announce("numbers")
    document = await pages.document()
    own = {name: list(taken(document, f"/models/{name}/predict")) for name in ("files", "texts")}
    assert own == {
        "files": [*KINDS, "multipart/form-data", "application/octet-stream"],
        "texts": [*KINDS, "multipart/form-data", "text/plain"],
    }
    options = document["paths"]["/models/files/predict"]["post"]["parameters"]
    assert [option["$ref"].rpartition("/")[2] for option in options] == ["timeout_s", "priority"]
    assert "parameters" not in document["paths"]["/models/numbers/predict"]["post"]
    of_version = taken(document, "/models/{name}/versions/{version}/predict")
    assert list(of_version)[2:] == ["multipart/form-data", "application/octet-stream", "text/plain"]


async def test_examples_of_errors_fit_their_status(pages: Pages) -> None:
    document = await pages.document()
    seen = set()
    for operations in document["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                content = response.get("content", {}).get("application/problem+json", {})
                for code, example in content.get("examples", {}).items():
                    value = example["value"]
                    assert (value["code"], str(value["status"])) == (code, status)
                    assert value["status"] == STATUS[code]
                    assert value["detail"].endswith(".")
                    seen.add(code)
    not_ready = document["paths"]["/readyz"]["get"]["responses"]["503"]["content"]
    assert not_ready["application/json"]["example"]["status"] == "starting"
    assert {"malformed", "invalid_input", "overloaded", "model_not_found"} <= seen
    assert "422" not in document["paths"]["/models/{name}"]["get"]["responses"]
    assert "HTTPValidationError" not in document["components"]["schemas"]


async def test_a_page_is_asked_with_head_as_well_and_says_how_else(pages: Pages) -> None:
    assert (await pages.http.head("/healthz")).status_code == 200
    refused = await pages.http.request("OPTIONS", "/v1/models/numbers:explain")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, POST, HEAD")
    packed = await pages.http.post("/v2/repository/index", headers={"content-encoding": "gzip"})
    assert (packed.status_code, list(packed.json())) == (415, ["error"])


async def test_metrics_have_their_type_in_the_document(pages: Pages) -> None:
    answer = await pages.http.get("/metrics")
    described = (await pages.document())["paths"]["/metrics"]["get"]["responses"]["200"]
    assert list(described["content"]) == [answer.headers["content-type"]]
