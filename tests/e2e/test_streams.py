"""Answers in pieces and async models, of ``modelyard serve``, as clients see them."""

from __future__ import annotations

import asyncio
import json
import queue
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton

from tests.e2e.test_odd_models import write
from tests.support.server import ROOT, Server, wait_until
from tests.support.streams import Event, events_of, open_stream, streamed, whole

STREAM_MODEL = ROOT / "tests" / "models" / "stream_model"

CONCURRENT = "[batching]\nconcurrency = 4\n[cache]\nttl_s = 0\n"

LETTERS = """\
from collections.abc import Iterator
from modelyard import Model

class Served(Model):
    example = ["abc"]

    def stream(self, instance: str) -> Iterator[str]:
        if instance == "none":
            return
        yield from instance
"""

COUNTER = """\
from collections.abc import Iterable
from modelyard import InvalidInput, StreamingModel

class Served(StreamingModel):
    example = [2]

    def load(self) -> None:
        self.left: dict[int, int] = {}

    def admit(self, stream: int, instance: int) -> None:
        if instance < 0:
            raise InvalidInput("negative", instance=0)
        self.left[stream] = instance

    def step(self) -> Iterable[tuple[int, int | None]]:
        made: list[tuple[int, int | None]] = []
        for stream, left in list(self.left.items()):
            if left == 13:
                made.append((stream, ValueError("unlucky")))
                del self.left[stream]
            elif left:
                self.left[stream] = left - 1
                made.append((stream, left))
            else:
                del self.left[stream]
                made.append((stream, None))
        return made

    def leave(self, stream: int) -> None:
        self.left.pop(stream, None)
"""

PLAIN = """\
from modelyard import Model

class Served(Model):
    def predict(self, instances: list[int]) -> list[int]:
        return instances
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("streams")
    letters = write(folder / "letters", LETTERS, CONCURRENT)
    counter = write(folder / "counter", COUNTER, CONCURRENT)
    plain = write(folder / "plain", PLAIN)
    settings = {"MODELYARD_GRPC_PORT": "0"}
    with Server(STREAM_MODEL, letters, counter, plain, settings=settings) as running:
        wait_until(lambda: running.http.get("/readyz").status_code == 200, what="the models")
        yield running


def test_pieces_come_as_server_sent_events(server: Server) -> None:
    with open_stream(server, "stream_model", {"nonce": 7}) as (response, events):
        assert response.headers["content-type"] == "text/event-stream"
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-request-id"]
        assert list(events) == whole(7)
    assert streamed(server, "stream_model", {"nonce": 7, "pieces": 0}) == whole(7, 0)
    assert streamed(server, "stream_model", {"nonce": 7, "pieces": 1000}) == whole(7, 1000)


def test_pieces_come_as_json_lines_at_the_address_of_a_model(server: Server) -> None:
    answer = server.http.post(
        "/models/letters/predict",
        json={"input_data": ["hi"]},
        headers={"accept": "application/jsonl"},
    )
    assert answer.headers["content-type"] == "application/jsonl"
    assert answer.text == (
        '{"piece":"h"}\n{"piece":"i"}\n'
        '{"end":{"model_name":"letters","model_version":"1","pieces":2}}\n'
    )


def test_every_kind_of_stream_has_many_under_way(server: Server) -> None:
    async def ask(http: httpx.AsyncClient, model: str, instance: object) -> list[object]:
        body = {"model_name": model, "input_data": [instance]}
        answer = await http.post("/predict", json=body, headers={"accept": "text/event-stream"})
        *pieces, last = events_of(answer.text.split("\n"))
        assert last.kind == "end"
        return [piece.data for piece in pieces]

    async def ask_all() -> None:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
            counts = [ask(http, "counter", number) for number in range(12)]
            words = [ask(http, "letters", "x" * number) for number in range(100, 112)]
            assert await asyncio.gather(*counts) == [
                list(range(number, 0, -1)) for number in range(12)
            ]
            assert [len(word) for word in await asyncio.gather(*words)] == list(range(100, 112))

    asyncio.run(ask_all())


def test_a_model_with_only_a_stream_is_predicted_by_gathering(server: Server) -> None:
    answer = server.predict("letters", ["ab", "none", "c"]).json()
    assert answer["prediction"] == [["a", "b"], [], ["c"]]
    assert server.predict("counter", [2, 3]).json()["prediction"] == [[2, 1], [3, 2, 1]]
    assert server.predict("counter", [2, -3]).status_code == 422


def test_v2_generates(server: Server) -> None:
    asked = {"id": "4", "text_input": "ab", "parameters": {"temperature": 1}}
    answer = server.http.post("/v2/models/letters/generate", json=asked)
    named = {"model_name": "letters", "model_version": "1"}
    assert answer.json() == {"id": "4", **named, "text_output": "ab"}
    streamed = server.http.post("/v2/models/letters/versions/1/generate_stream", json=asked)
    assert streamed.headers["content-type"] == "text/event-stream"
    events = events_of(streamed.text.split("\n"))
    assert [event.data["text_output"] for event in events] == ["a", "b"]
    pieces = server.http.post("/v2/models/stream_model/generate_stream", json={"nonce": 5})
    assert [event.data for event in events_of(pieces.text.split("\n"))] == [
        {"model_name": "stream_model", "model_version": "1", "nonce": 5, "number": number}
        for number in range(3)
    ]
    whole = server.http.post("/v2/models/plain/generate_stream", json={"text_input": 1})
    assert whole.headers["content-type"] == "text/event-stream"
    (event,) = events_of(whole.text.split("\n"))
    assert event.data == {"model_name": "plain", "model_version": "1", "text_output": 1}
    for path, body, status in (
        ("letters/generate", {"id": "1"}, 422),
        ("letters/generate", {"text_input": 3}, 422),
        ("letters/generate", [], 400),
        ("stream_model/generate", {"nonce": 1, "act": "raise"}, 502),
        ("nobody/generate_stream", {"text_input": "a"}, 404),
    ):
        refused = server.http.post(f"/v2/models/{path}", json=body)
        assert (refused.status_code, list(refused.json())) == (status, ["error"]), path


def test_triton_s_client_reads_pieces_over_grpc(server: Server) -> None:
    def asked(model: str, **values: Any) -> list[tuple[list[Any], str]]:
        tensors = []
        for name, value in values.items():
            datatype = "INT64" if isinstance(value, int) else "BYTES"
            tensors.append(triton.InferInput(name, [1], datatype))
            kind = np.int64 if isinstance(value, int) else object
            tensors[-1].set_data_from_numpy(np.array([value], dtype=kind))
        came: queue.Queue[tuple[Any, Any]] = queue.Queue()
        found: list[tuple[list[Any], str]] = []
        with triton.InferenceServerClient(server.grpc_address) as client:
            client.start_stream(lambda result, error: came.put((result, error)))
            client.async_stream_infer(model, tensors, enable_empty_final_response=True)
            while True:
                result, error = came.get(timeout=60)
                if error is not None:
                    return [*found, ([], error.message())]
                response = result.get_response()
                if response.outputs:
                    found.append((list(result.as_numpy("output")), response.model_version))
                if response.parameters["triton_final_response"].bool_param:
                    return found

    assert asked("letters", input=b"abc") == [([b"a"], "1"), ([b"b"], "1"), ([b"c"], "1")]
    pieces = asked("stream_model", nonce=4, pieces=300)
    assert [json.loads(piece[0]) for piece, _ in pieces] == [
        {"nonce": 4, "number": number} for number in range(300)
    ]
    *first, (_, problem) = asked("stream_model", nonce=4, act=b"raise", after=1)
    assert len(first) == 1
    assert problem.startswith("the model raised ValueError")
    ((_, refused),) = asked("stream_model", nothing=1)
    assert "nothing" in refused
    assert asked("plain", input=7) == [([7], "1")]  # a model without pieces has one response


def test_what_fails_before_the_first_piece_has_a_status(server: Server) -> None:
    def refused(model: str, *instances: object) -> tuple[int, str]:
        body = {"model_name": model, "input_data": instances}
        answer = server.http.post("/predict", json=body, headers={"accept": "text/event-stream"})
        assert answer.headers["content-type"] == "application/problem+json"
        return answer.status_code, answer.json()["code"]

    assert refused("stream_model", {"nonce": 1, "act": "raise"}) == (502, "model_failed")
    assert refused("stream_model", {"nonce": 1, "act": "cancel"}) == (502, "model_failed")
    assert refused("stream_model", {"nonce": 1, "act": "refuse"}) == (422, "invalid_input")
    assert refused("stream_model", {"nonce": "x"}) == (422, "invalid_input")
    assert refused("stream_model", {"nonce": 1}, {"nonce": 2}) == (422, "invalid_input")
    assert refused("counter", -1) == (422, "invalid_input")
    assert refused("plain", 1) == (406, "not_acceptable")
    assert refused("nobody", 1) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/json, text/event-stream", "application/json"),
        ("text/event-stream, application/json", "text/event-stream"),
        ("application/json;q=0.1, text/event-stream", "text/event-stream"),
        ("text/event-stream;q=0.1, application/json", "application/json"),
        ("text/event-stream;q=0, application/json", "application/json"),
        ("text/event-stream; charset=utf-8; q=0.9, application/jsonl;q=1.0", "application/jsonl"),
        ("*/*", "application/json"),
    ],
)
def test_the_heaviest_type_counts(server: Server, accept: str, kind: str) -> None:
    body = {"model_name": "letters", "input_data": ["ab"]}
    answer = server.http.post("/predict", json=body, headers={"accept": accept})
    assert answer.headers["content-type"] == kind


def test_what_fails_later_is_an_event(server: Server) -> None:
    def ended(model: str, instance: object) -> tuple[int, str, str]:
        *pieces, last = streamed(server, model, instance)
        assert {piece.kind for piece in pieces} <= {"message"}
        return len(pieces), last.kind, last.data["code"]

    assert ended("stream_model", {"nonce": 1, "act": "raise", "after": 2}) == (
        2,
        "error",
        "model_failed",
    )
    assert ended("stream_model", {"nonce": 1, "act": "refuse", "after": 1}) == (
        1,
        "error",
        "invalid_input",
    )
    assert ended("stream_model", {"nonce": 1, "act": "wrong", "after": 1}) == (
        1,
        "error",
        "model_failed",
    )
    assert ended("counter", 15) == (2, "error", "model_failed")
    assert ended("stream_model", {"nonce": 1, "act": "hang", "after": 1}) == (
        1,
        "error",
        "deadline_exceeded",
    )


def test_a_runner_that_ends_is_seen_only_after_the_first_piece(
    server: Server, tmp_path: Path
) -> None:
    before = {"nonce": 5, "act": "exit", "once": str(tmp_path / "before")}
    assert streamed(server, "stream_model", before) == whole(5)
    after = {"nonce": 6, "act": "exit", "after": 2, "pause_s": 0.1}
    after["once"] = str(tmp_path / "after")
    *pieces, last = streamed(server, "stream_model", after)
    assert pieces in (whole(6)[:1], whole(6)[:2])  # the second may not have left its runner
    assert (last.kind, last.data["code"]) == ("error", "stream_broken")


def test_one_that_ends_its_runner_each_time_harms_itself_alone(server: Server) -> None:
    async def ask_all() -> None:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:

            async def ask(nonce: int, act: str) -> httpx.Response:
                instance = {"nonce": nonce, "act": act, "pause_s": 0.2}
                body = {"model_name": "stream_model", "input_data": [instance]}
                return await http.post("/predict", json=body)

            asked = [ask(nonce, "exit" if nonce == 4 else "answer") for nonce in range(10)]
            answers = await asyncio.gather(*asked)
        assert (answers[4].status_code, answers[4].json()["code"]) == (502, "model_crashed")
        for nonce, answer in enumerate(answers):
            if nonce != 4:
                assert answer.json()["prediction"][0][0] == nonce * 3 + 1

    asyncio.run(ask_all())


def test_what_a_model_cancels_itself_is_its_failure(server: Server) -> None:
    answer = server.predict("stream_model", [{"nonce": 1, "act": "cancel"}])
    assert (answer.status_code, answer.json()["code"]) == (502, "model_failed")
    assert "CancelledError" in answer.json()["detail"]


def test_an_async_model_has_many_calls_under_way(server: Server) -> None:
    async def ask_all() -> list[int]:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:

            async def ask(nonce: int) -> int:
                instances = [{"nonce": nonce, "pause_s": 1.0}] * 8  # a batch
                body = {"model_name": "stream_model", "input_data": instances}
                answer = (await http.post("/predict", json=body)).json()["prediction"]
                assert answer[0][0] == nonce * 3 + 1
                return int(answer[0][1])

            return await asyncio.gather(*map(ask, range(20)))

    assert max(asyncio.run(ask_all())) > 5


def test_the_model_is_told_that_the_client_has_left(server: Server, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    instance = {"nonce": 9, "pause_s": 0.1, "pieces": 1000, "diary": str(diary)}
    with open_stream(server, "stream_model", instance) as (_, events):
        next(events)
    wait_until(lambda: "9 over " in diary.read_text(), what="the stream to be closed")
    with httpx.Client(base_url=server.url, timeout=1) as http:
        body = {"model_name": "stream_model", "input_data": [{**instance, "pause_s": 19}]}
        with pytest.raises(httpx.ReadTimeout):
            http.post("/predict", json=body)
    wait_until(lambda: "9 left" in diary.read_text(), what="the call to be cancelled")
    assert streamed(server, "stream_model", {"nonce": 1}) == whole(1)


def test_who_does_not_read_holds_up_nobody_else(server: Server, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    instance = {"nonce": 3, "pieces": 1_000_000, "diary": str(diary)}
    body = json.dumps({"model_name": "stream_model", "input_data": [instance]})
    head = (
        "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        f"accept: text/event-stream\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall((head + body).encode())
        wait_until(diary.exists, what="the stream to begin")
        for nonce in range(20):
            assert streamed(server, "stream_model", {"nonce": nonce, "pieces": 100}) == whole(
                nonce, 100
            )
    wait_until(lambda: "over" in diary.read_text(), what="its end")
    made = int(diary.read_text().split()[-1])
    assert made < 500_000, "it was made although nobody read it"


def test_http_1_0_gets_pieces_without_chunks(server: Server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    body = '{"model_name": "letters", "input_data": ["ab"]}'
    with socket.create_connection((host, int(port))) as old:
        old.sendall(
            (
                "POST /predict HTTP/1.0\r\ncontent-type: application/json\r\n"
                f"accept: application/jsonl\r\ncontent-length: {len(body)}\r\n\r\n{body}"
            ).encode()
        )
        received = b"".join(iter(lambda: old.recv(4096), b""))
    head, _, rest = received.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert b"connection: close" in head
    assert rest.startswith(b'{"piece":"a"}\n{"piece":"b"}\n{"end":')


def test_a_stopping_server_lets_streams_end(tmp_path: Path) -> None:
    with Server(STREAM_MODEL) as own:
        wait_until(lambda: own.http.get("/readyz").status_code == 200, what="the model")
        with open_stream(own, "stream_model", {"nonce": 2, "pieces": 8, "pause_s": 0.2}) as (
            _,
            events,
        ):
            first = next(events)
            own.process.terminate()
            assert [first, *events] == whole(2, 8)


def test_the_event_of_an_error_is_a_problem_document(server: Server) -> None:
    *_, last = streamed(server, "stream_model", {"nonce": 1, "act": "raise", "after": 1})
    assert isinstance(last, Event)
    assert (last.data["status"], last.data["title"]) == (502, "Bad Gateway")
    assert "nonce 1" not in last.data["detail"]
