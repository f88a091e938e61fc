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
    assert names == ["embedder", "lister", "parrot", "scribe", "teller", "typist", "writer"]
    assert client.models.retrieve("parrot").id == "parrot"
    assert client.models.retrieve("parrot@1").id == "parrot@1"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("parrot@2")


def test_calls_that_are_not_here_are_refused_in_openai_s_form(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as found:
        client.responses.create(model="parrot", input="hello")
    assert (found.value.code, found.value.type) == ("not_found", "not_found_error")


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


def said(text: str) -> Any:
    return [{"role": "user", "content": text}]


def test_a_chat_comes_in_pieces(client: OpenAI) -> None:
    chat = client.chat.completions
    chunks = list(chat.create(model="teller", messages=said("one two three"), stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "one two three"
    assert [c.choices[0].delta.role for c in chunks[:2]] == ["assistant", None]
    assert [c.choices[0].finish_reason for c in chunks][-2:] == [None, "length"]
    assert len({(c.id, c.created, c.model, c.object) for c in chunks}) == 1
    assert (chunks[0].model, chunks[0].object) == ("teller", "chat.completion.chunk")
    assert all(c.usage is None for c in chunks)
    told: Any = {"include_usage": True}
    *others, last = chat.create(
        model="teller", messages=said("a b"), stream=True, stream_options=told
    )
    assert all("usage" in c.model_fields_set and c.usage is None for c in others)
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == 3 + 2
    *_, last = chat.create(model="teller", messages=said("abrupt"), stream=True)
    assert last.choices[0].finish_reason == "stop"


def test_what_is_only_made_in_pieces_can_be_had_as_a_whole(client: OpenAI) -> None:
    chat = client.chat.completions
    whole = chat.create(model="teller", messages=said("one two three"))
    assert whole.choices[0].message.content == "one two three"
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 3
    tool: Any = {"type": "function", "function": {"name": "look_up", "parameters": {}}}
    called = chat.create(model="teller", messages=said("one"), tools=[tool])
    call = (called.choices[0].message.tool_calls or [])[0]
    assert call.type == "function"
    assert (call.function.name, call.function.arguments) == ("look_up", '{"word":"one"}')
    with chat.stream(model="teller", messages=said("one"), tools=[tool]) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].finish_reason == "tool_calls"
    call = (final.choices[0].message.tool_calls or [])[0]
    assert (call.id, call.function.arguments) == ("call_1", '{"word":"one"}')


def test_a_text_comes_in_pieces_or_as_a_whole(client: OpenAI) -> None:
    chunks = list(client.completions.create(model="typist", prompt="abc", stream=True))
    assert [c.choices[0].text for c in chunks] == ["c", "b", "a", ""]
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert client.completions.create(model="typist", prompt="abc").choices[0].text == "cba"
    whole = client.completions.create(model="scribe", prompt="abc", n=2)  # made of its pieces
    told = [(one.index, one.text, one.finish_reason) for one in whole.choices]
    assert told == [(0, "abc", "length"), (1, "abc", "length")]
    assert whole.usage is not None
    assert whole.usage.total_tokens == 1 + 3


def test_a_stream_that_cannot_begin_has_a_status_and_one_that_breaks_says_so(
    client: OpenAI,
) -> None:
    chat = client.chat.completions
    with pytest.raises(openai.UnprocessableEntityError, match="not that word"):
        chat.create(model="teller", messages=said("refuse"), stream=True)
    with pytest.raises(openai.APIStatusError, match="as a whole") as refused:
        chat.create(model="parrot", messages=said("hello"), stream=True)
    assert (refused.value.status_code, refused.value.code) == (406, "not_acceptable")
    words: list[Any] = []
    stream = chat.create(model="teller", messages=said("one two raise"), stream=True)
    with pytest.raises(openai.APIError, match="the model raised ValueError") as broken:
        words.extend(chunk.choices[0].delta.content for chunk in stream)
    assert words[-2:] == ["one", " two"]
    assert broken.value.code == "model_failed"


async def test_a_client_that_leaves_ends_the_stream(server: Server) -> None:
    before = server.metric("modelyard_requests_total", code="client_gone")
    async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
        stream = await client.chat.completions.create(
            model="teller", messages=said("forever"), stream=True
        )
        heard = 0
        async for chunk in stream:
            heard += chunk.choices[0].delta.content == "on and "
            if heard == 3:
                break
        await stream.close()

    def has_ended() -> bool:
        gone = server.metric("modelyard_requests_total", code="client_gone") > before
        found = server.http.get("/models/teller").json()["versions"][0]
        return gone and found["capacity"]["in_flight"] == 0

    wait_until(has_ended, what="the end")


def test_keys_count_as_everywhere(broker: Broker, stack: ExitStack, tmp_path: Path) -> None:
    models = write_chatting(tmp_path / "models")
    keys = Keys(tmp_path / "state")
    key = keys.create("mine", "predict:parrot", "predict:embedder", "predict:teller")
    settings: Any = keys.settings
    cluster = Cluster(broker, stack, **settings)
    for name in ("parrot", "embedder", "teller"):
        cluster.start_worker(folder=models / name)
    client = stack.enter_context(client_of(cluster.gateway, api_key=key))
    wait_until(lambda: len(list(client.models.list())) == 3, what="the models")
    answer = client.chat.completions.create(model="parrot", messages=HELLO)
    assert answer.choices[0].message.content == "one two three"
    assert client.embeddings.create(model="embedder", input="a").data[0].embedding == [1, 1, 0.5]
    chunks = client.chat.completions.create(model="teller", messages=said("a b"), stream=True)
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "a b"
    with client_of(cluster.gateway, api_key="wrong") as stranger:
        for ask in (
            lambda: stranger.chat.completions.create(model="parrot", messages=HELLO),
            lambda: stranger.embeddings.create(model="embedder", input="a"),
            stranger.models.list,
        ):
            with pytest.raises(openai.AuthenticationError):
                ask()
