"""OpenAI's own client, sync and async, with no word of it changed but the address."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.support.broker import Broker
from tests.support.chatting import write_chatting
from tests.support.cluster import Cluster
from tests.support.keys import Keys
from tests.support.server import Member, Server, wait_until

HELLO: Any = [
    {"role": "system", "content": "Repeat."},
    {"role": "user", "content": [{"type": "text", "text": "one two three"}]},
]


def client_of(server: Member, **more: Any) -> OpenAI:
    more = {"api_key": "none", "max_retries": 0, **more}
    return OpenAI(base_url=f"{server.url}/v1", **more)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(write_chatting(tmp_path_factory.mktemp("models"))) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the models")
        yield server


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[OpenAI]:
    with client_of(server) as client:
        yield client


def test_a_chat_is_answered(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="parrot", messages=HELLO, temperature=0.7, n=2)
    assert [choice.message.content for choice in answer.choices] == ["one two three"] * 2
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.object, answer.model) == ("chat.completion", "parrot")
    assert answer.usage is not None
    assert answer.usage.total_tokens == 4 + 3
    assert answer.id == f"chatcmpl-{answer._request_id}"
    assert answer.created > 1.7e9


def test_sampling_and_tools_reach_the_model(client: OpenAI) -> None:
    chat = client.chat.completions
    short = chat.create(model="parrot@1", messages=HELLO, max_completion_tokens=2)
    assert short.choices[0].message.content == "one two"
    assert short.choices[0].finish_reason == "length"
    tool: Any = {"type": "function", "function": {"name": "look_up", "parameters": {}}}
    called = chat.create(model="parrot", messages=HELLO, tools=[tool])
    assert called.choices[0].finish_reason == "tool_calls"
    call = (called.choices[0].message.tool_calls or [])[0]
    assert call.type == "function"
    assert (call.function.name, call.function.arguments) == ("look_up", '{"word":"one"}')
    back: Any = [
        *HELLO,
        called.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "found"},
    ]
    assert chat.create(model="parrot", messages=back).choices[0].message.content == "found"


def test_a_text_is_continued(client: OpenAI) -> None:
    answer = client.completions.create(model="writer", prompt=["abc", "de"])
    assert [choice.text for choice in answer.choices] == ["cba", "ed"]
    assert answer.object == "text_completion"


@pytest.mark.parametrize("model", ["embedder", "lister"])
def test_embeddings_come_as_numbers_and_in_base64(client: OpenAI, model: str) -> None:
    rows = [[5.0, 0.0, 0.5], [6.0, 3.0, 0.5]]
    made = client.embeddings.create(model=model, input=["hello", "banana"])  # asks for base64
    assert [one.embedding for one in made.data] == rows
    assert [one.index for one in made.data] == [0, 1]
    told = client.embeddings.create(model=model, input="banana", encoding_format="float")
    assert [one.embedding for one in told.data] == rows[1:]


def test_models_are_listed(client: OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert names == ["embedder", "lister", "parrot", "writer"]
    assert client.models.retrieve("parrot").id == "parrot"


@pytest.mark.parametrize(
    ("asked", "kind", "code", "param"),
    [
        ({"model": "nobody"}, openai.NotFoundError, "model_not_found", None),
        ({"model": "parrot@7"}, openai.NotFoundError, "version_not_found", None),
        ({"model": "embedder"}, openai.UnprocessableEntityError, "invalid_input", "model"),
        ({"messages": []}, openai.UnprocessableEntityError, "invalid_input", "messages"),
        (
            {"messages": [{"role": "king", "content": "x"}]},
            openai.UnprocessableEntityError,
            "invalid_input",
            "messages[0].role",
        ),
        ({"temperature": 7}, openai.UnprocessableEntityError, "invalid_input", "temperature"),
        ({"said": "raise"}, openai.InternalServerError, "model_failed", None),
        (
            {"said": "refuse"},
            openai.UnprocessableEntityError,
            "invalid_input",
            "messages[0].content",
        ),
        (
            {"said": "sleep 5", "extra_body": {"timeout_s": 0.2}},
            openai.InternalServerError,
            "deadline_exceeded",
            None,
        ),
    ],
)
def test_errors_are_openai_s(
    client: OpenAI, asked: dict[str, Any], kind: type[openai.APIStatusError], code: str, param: Any
) -> None:
    said = asked.pop("said", "hello")
    asked = {"model": "parrot", "messages": [{"role": "user", "content": said}], **asked}
    with pytest.raises(kind) as found:
        client.chat.completions.create(**asked)
    assert (found.value.code, found.value.param) == (code, param), found.value
    assert found.value.request_id


def test_a_client_that_waits_no_longer_says_so(server: Server) -> None:
    late: Any = [{"role": "user", "content": "sleep 1"}]
    with client_of(server, timeout=0.2) as client, pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(model="parrot", messages=late)
    wait_until(
        lambda: server.metric("modelyard_requests_total", code="client_gone") >= 1, what="that"
    )


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"input": [[1, 2]]}, "input"),
        ({"input": ["a"], "dimensions": 2}, "dimensions"),
        ({"input": []}, None),
        ({"input": "a", "model": "parrot"}, "model"),
    ],
)
def test_what_an_embedding_model_does_not_take_is_refused(
    client: OpenAI, asked: dict[str, Any], param: str | None
) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as found:
        client.embeddings.create(**{"model": "embedder", **asked})
    assert found.value.param == param


async def test_the_async_client_works_too(server: Server) -> None:
    async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
        answer = await client.chat.completions.create(model="parrot", messages=HELLO)
        assert answer.choices[0].message.content == "one two three"
        made = await client.embeddings.create(model="embedder", input=["hello"])
        assert made.data[0].embedding == [5.0, 0.0, 0.5]
        assert [model.id async for model in client.models.list()][-1] == "writer"


def test_keys_count_as_everywhere(broker: Broker, stack: ExitStack, tmp_path: Path) -> None:
    models = write_chatting(tmp_path / "models")
    keys = Keys(tmp_path / "state")
    key = keys.create("mine", "predict:parrot", "predict:embedder")
    settings: Any = keys.settings
    cluster = Cluster(broker, stack, **settings)
    for name in ("parrot", "embedder"):
        cluster.start_worker(folder=models / name)
    client = stack.enter_context(client_of(cluster.gateway, api_key=key))
    wait_until(lambda: len(list(client.models.list())) == 2, what="both models")
    answer = client.chat.completions.create(model="parrot", messages=HELLO)
    assert answer.choices[0].message.content == "one two three"
    assert client.embeddings.create(model="embedder", input="a").data[0].embedding == [1, 1, 0.5]
    with client_of(cluster.gateway, api_key="wrong") as stranger:
        for ask in (
            lambda: stranger.chat.completions.create(model="parrot", messages=HELLO),
            lambda: stranger.embeddings.create(model="embedder", input="a"),
            stranger.models.list,
        ):
            with pytest.raises(openai.AuthenticationError):
                ask()
