"""Traces of ``modelyard serve``, as a collector gets them."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.openmetrics import parser as openmetrics

from tests.support.calling import write_calling, write_leaf
from tests.support.collector import Collector, Seen
from tests.support.jobs import Store
from tests.support.server import Server, complaint_of, wait_until

CALLER = "00f067aa0ba902b7"

SPEAKING = """
from opentelemetry import trace

from modelyard import Model

tracer = trace.get_tracer("speaking")


class Speaking(Model):
    def predict(self, instances: list[int]) -> list[int]:
        with tracer.start_as_current_span("tokenize") as span:
            span.set_attribute("tokens", 3)
            print("counted", instances)
        if 9 in instances:
            trace.get_current_span().set_attribute("nines", 1)
        if -13 in instances:
            raise ValueError("unlucky")
        return instances
"""

WAITING = """
import asyncio
from collections.abc import AsyncIterator

from modelyard import Model


class Waiting(Model):
    async def predict(self, instances: list[int]) -> list[int]:
        await asyncio.sleep(0.01)
        return instances

    async def stream(self, instance: int) -> AsyncIterator[int]:
        yield instance
"""


def write(folder: Path, name: str, code: str, more: str = "") -> None:
    (folder / name / "src").mkdir(parents=True)
    (folder / name / "src" / "model.py").write_text(code)
    kind = f"model:{name.title()}"
    text = f'name = "{name}"\nversion = "1"\nclass = "{kind}"\n[cache]\nttl_s = 0\n{more}'
    (folder / name / "model.toml").write_text(text)


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as listening:
        yield listening


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("models")
    write(folder, "speaking", SPEAKING)
    write(folder, "waiting", WAITING, "[batching]\nconcurrency = 4\n")
    write_leaf(folder)
    write_calling(folder, "front", "leaf")
    settings = {
        "MODELYARD_TRACES": "otlp",
        "MODELYARD_TRACES_URL": collector.url,
        "MODELYARD_TRACES_RATE": "1",
        "MODELYARD_ACCESS_LOG": "true",
    }
    with Server(folder, settings=settings) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the models")
        yield server


def headers(trace_id: str) -> dict[str, str]:
    return {"traceparent": f"00-{trace_id}-{CALLER}-01", "x-request-id": trace_id}


def test_a_model_adds_spans_of_its_own_and_its_lines_name_the_trace(
    server: Server, collector: Collector
) -> None:
    trace_id = secrets.token_hex(16)
    assert server.predict("speaking", [7], headers=headers(trace_id)).status_code == 200
    spans = collector.wait_for(trace_id, "predict!", "wait", "batch", "run", "predict", "tokenize")
    assert spans["tokenize"].parent_id == spans["predict"].span_id
    assert spans["tokenize"].attributes == {"tokens": 3}
    assert spans["batch"].parent_id == spans["predict!"].span_id

    def lines() -> list[list[str]]:
        told = server.events("model_output")
        return [line["trace_ids"] for line in told if line["text"] == "counted [7]"]

    assert wait_until(lines, what="the line") == [[trace_id]]
    (line,) = [one for one in server.events("request") if one["id"] == trace_id]
    assert line["trace_id"] == trace_id


def test_a_model_says_more_of_the_span_that_is_current(
    server: Server, collector: Collector
) -> None:
    trace_id = secrets.token_hex(16)
    assert server.predict("speaking", [9], headers=headers(trace_id)).status_code == 200
    spans = collector.wait_for(trace_id, "run", "predict", "tokenize")
    assert spans["predict"].attributes == {"modelyard.batch.instances": 1, "nines": 1}
    assert spans["predict"].parent_id == spans["run"].span_id
    assert spans["tokenize"].parent_id == spans["predict"].span_id


def test_the_latency_names_traces_where_openmetrics_is_asked_for(server: Server) -> None:
    trace_id = secrets.token_hex(16)
    assert server.predict("speaking", [8], headers=headers(trace_id)).status_code == 200
    asked = {"accept": "application/openmetrics-text; version=1.0.0"}
    text = server.http.get("/metrics", headers=asked).text
    families = openmetrics.text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    buckets = [
        sample
        for family in families
        for sample in family.samples
        if sample.name == "modelyard_request_seconds_bucket" and sample.exemplar is not None
    ]
    (bucket,) = [one for one in buckets if one.exemplar.labels == {"trace_id": trace_id}]
    assert bucket.labels["model"] == "speaking"
    assert bucket.exemplar.value <= float(bucket.labels["le"])
    plain = server.http.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain")
    assert trace_id not in plain.text


def test_without_a_traceparent_a_share_is_traced(server: Server, collector: Collector) -> None:
    assert server.predict("waiting", [7]).status_code == 200

    def roots() -> list[Seen]:
        return [s for s in collector.spans if s.name == "predict waiting" and not s.parent_id]

    (root,) = wait_until(roots, what="the trace")
    collector.wait_for(root.trace_id, "predict!", "wait", "batch", "run", "predict")
    assert root.attributes["modelyard.code"] == "ok"
    assert root.ended - root.began >= 10_000_000  # the model waits for 10 ms


def test_a_request_that_is_refused_has_a_span(server: Server, collector: Collector) -> None:
    trace_id = secrets.token_hex(16)
    assert server.predict("nobody", [7], headers=headers(trace_id)).status_code == 404
    span = collector.wait_for(trace_id, "predict")["predict"]
    assert (span.parent_id, span.error) == (CALLER, "")
    assert span.attributes["modelyard.code"] == "model_not_found"


def test_a_stream_and_a_call_of_another_model_are_parts_of_the_trace(
    server: Server, collector: Collector
) -> None:
    trace_id = secrets.token_hex(16)
    accept = {"accept": "application/jsonl", **headers(trace_id)}
    assert server.predict("waiting", [7], headers=accept).status_code == 200
    spans = collector.wait_for(trace_id, "predict!", "wait", "batch")
    assert spans["batch"].parent_id == spans["predict!"].span_id
    assert spans["predict!"].began <= spans["wait"].began
    assert spans["predict!"].ended >= spans["batch"].ended

    trace_id = secrets.token_hex(16)
    assert server.predict("front", [{"nonce": 1}], headers=headers(trace_id)).status_code == 200

    def names() -> set[str]:
        return {span.name for span in collector.of(trace_id)}

    wait_until(
        lambda: {"predict front", "batch front/1", "predict leaf", "batch leaf/1"} <= names(),
        what="the spans of both",
    )
    found = {span.name: span for span in collector.of(trace_id)}
    assert found["predict leaf"].parent_id == found["batch front/1"].span_id


def test_a_job_continues_the_trace_of_whoever_submitted_it_in_another_server_too(
    tmp_path: Path, collector: Collector
) -> None:
    write(tmp_path / "models", "speaking", SPEAKING)
    store = Store(tmp_path / "state")
    settings = {
        **store.settings,
        "MODELYARD_TRACES": "otlp",
        "MODELYARD_TRACES_URL": collector.url,
        "MODELYARD_TRACES_RATE": "0",
        "MODELYARD_ACCESS_LOG": "true",
    }
    trace_id, other_id = secrets.token_hex(16), secrets.token_hex(16)
    body = {"model_name": "speaking", "input_data": [-13]}
    with Server(tmp_path / "models", settings=settings) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
        asked = {"traceparent": f"00-{other_id}-{CALLER}-00", "job-max-attempts": "1"}
        assert server.http.put("/jobs/quiet", json=body, headers=asked).status_code == 202
        assert server.http.get("/jobs/quiet", params={"wait": "60"}).json()["state"] == "failed"
        asked = {**headers(trace_id), "job-delay": "3", "job-max-attempts": "2"}
        assert server.http.put("/jobs/mine", json=body, headers=asked).status_code == 202
        wait_until(lambda: len(server.events("job_accepted")) == 2, what="the lines of both")
        line = server.events("job_accepted")[1]
        assert (line["id"], line["job"], line["trace_id"]) == (trace_id, "mine", trace_id)
    quiet = collector.wait_for(other_id, "job")["job"]  # nobody asked for it, but it has failed
    assert (quiet.parent_id, quiet.error) == (CALLER, "model_failed")
    with Server(tmp_path / "models", settings=settings) as server:
        job = server.http.get("/jobs/mine", params={"wait": "60"}).json()
        assert job["state"] == "failed"
        wait_until(
            lambda: len(server.events("job_attempt")) == 2, what="the lines of both attempts"
        )
        first, last = server.events("job_attempt")
        assert first["trace_id"] == last["trace_id"] == trace_id
        assert (first["job"], first["state"], last["state"]) == ("mine", "queued", "failed")
        (line, _) = [line for line in server.events("model_output") if "-13" in line["text"]]
        assert (line["ids"], line["trace_ids"]) == ([first["id"]], [trace_id])

    collector.wait_for(trace_id, "submit", "job", "batch", "run", "predict", "tokenize")
    spans = collector.of(trace_id)
    (submitted,) = [span for span in spans if span.name == "submit speaking"]
    assert (submitted.parent_id, submitted.attributes["modelyard.job.id"]) == (CALLER, "mine")
    attempts = [span for span in spans if span.name == "job speaking"]
    assert [span.attributes["modelyard.job.attempt"] for span in attempts] == [1, 2]
    assert {span.parent_id for span in attempts} == {submitted.span_id}
    assert {span.error for span in attempts} == {"model_failed"}
    batches = [span for span in spans if span.name == "batch speaking/1"]
    assert [span.parent_id for span in batches] == [span.span_id for span in attempts]


@pytest.mark.parametrize(
    "wrong",
    [f"00-{'0' * 32}-{CALLER}-01", "00-abc-def-01", f"ff-{'a' * 32}-{CALLER}-01", "\xe9" * 55],
)
def test_a_traceparent_that_is_none_starts_a_trace(
    server: Server, collector: Collector, wrong: str
) -> None:
    body = {"model_name": "speaking", "input_data": [1]}
    asked = secrets.token_hex(16)
    sent = [(b"traceparent", wrong.encode("latin-1")), (b"x-request-id", asked.encode())]
    assert server.http.post("/predict", json=body, headers=sent).status_code == 200

    def roots() -> list[Seen]:
        told = "modelyard.request_id"
        return [span for span in collector.spans if span.attributes.get(told) == asked]

    (root,) = wait_until(roots, what="a trace")
    assert not root.parent_id


def test_a_known_head_keeps_no_trace_of_another_caller(
    server: Server, collector: Collector
) -> None:
    body = {"model_name": "speaking", "input_data": [1]}
    theirs = secrets.token_hex(16)
    for _ in range(2):
        sent = {"traceparent": f"00-{theirs}-{CALLER}-01"}
        assert server.http.post("/predict", json=body, headers=sent).status_code == 200
    asked = secrets.token_hex(16)  # in the place of that line
    told = {"x-request-id": asked}
    assert server.http.post("/predict", json=body, headers=told).status_code == 200

    def own() -> list[Seen]:
        name = "modelyard.request_id"
        return [span for span in collector.spans if span.attributes.get(name) == asked]

    (span,) = wait_until(own, what="a trace")
    assert span.trace_id != theirs
    assert not span.parent_id


def test_a_collector_that_is_away_costs_no_request(tmp_path: Path) -> None:
    write(tmp_path, "speaking", SPEAKING)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and it does not listen
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        told = {"MODELYARD_TRACES": "otlp", "MODELYARD_TRACES_URL": url}
        with Server(tmp_path, settings={**told, "MODELYARD_TRACES_RATE": "1"}) as server:
            wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
            for number in range(20):
                assert server.predict("speaking", [number]).status_code == 200
            assert "Traceback" not in server.output


def test_spans_are_sent_as_opentelemetrys_variables_say_and_again_after_a_refusal(
    tmp_path: Path,
) -> None:
    write(tmp_path, "speaking", SPEAKING)
    trace_id = secrets.token_hex(16)
    with Collector(refusals=3) as collector:
        settings = {
            "MODELYARD_TRACES": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"{collector.url}/",
            "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Basic%20abc,x-scope=mine",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        }
        with Server(tmp_path, settings=settings) as server:
            wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
            assert server.predict("speaking", [-13], headers=headers(trace_id)).status_code == 502
            names = ("predict!", "wait", "batch", "run", "predict", "tokenize")
            spans = collector.wait_for(trace_id, *names)
            assert server.output.count("takes no spans: status 503") <= 2  # gateway and runner
        assert spans["predict!"].error == "model_failed"
        assert spans["predict"].error == "ValueError: unlucky"
        assert (spans["predict!"].service, spans["run"].service) == (
            "modelyard",
            "modelyard-runner",
        )
        for told in collector.headers:
            assert (told["authorization"], told["x-scope"]) == ("Basic abc", "mine")
            assert told["content-encoding"] == "gzip"


def test_a_setting_that_is_none_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "speaking", SPEAKING)
    for name, value in (("TRACES", "jaeger"), ("TRACES_RATE", "2"), ("TRACES_URL", "collector")):
        said = complaint_of("serve", tmp_path, settings={f"MODELYARD_{name}": value})
        assert f"MODELYARD_{name}" in said
    settings = {"MODELYARD_TRACES": "otlp", "OTEL_EXPORTER_OTLP_TIMEOUT": "soon"}
    said = complaint_of("serve", tmp_path, settings=settings)
    assert "OTEL_EXPORTER_OTLP_TIMEOUT" in said
