"""Types of the OpenAI API, for models that its clients ask.

    class Parrot(Model):
        def predict(self, instances: list[ChatRequest]) -> list[ChatCompletion]:
            return [ChatCompletion.of(request.messages[-1].text) for request in instances]

A model with these types answers ``POST /v1/chat/completions`` or ``/v1/completions``; the gateway
adds id, time and the model's name. In pieces it answers by a stream, beside ``predict`` or alone::

    class Parrot(Model):
        def stream(self, instance: ChatRequest) -> Iterator[ChatChunk]:
            for word in instance.messages[-1].text.split():
                yield ChatChunk.of(word + " ")
            yield ChatChunk.end("stop")

 Fields that are not here are ignored, so a newer client does not
fail. See https://platform.openai.com/docs/api-reference for what each means.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

__all__ = [
    "ChatChoice",
    "ChatChunk",
    "ChatChunkChoice",
    "ChatCompletion",
    "ChatDelta",
    "ChatMessage",
    "ChatRequest",
    "Completion",
    "CompletionChoice",
    "CompletionChunk",
    "CompletionChunkChoice",
    "CompletionRequest",
    "ContentPart",
    "FinishReason",
    "FunctionCall",
    "FunctionDelta",
    "StreamOptions",
    "ToolCall",
    "ToolCallDelta",
    "Usage",
]

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
Role = Literal["developer", "system", "user", "assistant", "tool", "function"]
Temperature = Annotated[float, Meta(ge=0, le=2)]
Share = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Count = Annotated[int, Meta(ge=1)]
Choices = Annotated[int, Meta(ge=1, le=128)]

CHAT, TEXT = {"x-openai": "chat.completion"}, {"x-openai": "text_completion"}
"""In the schema of a model's output: by these gateways know what it answers."""


class ContentPart(msgspec.Struct, omit_defaults=True):
    """A part of a message: a text, an image, a sound or a file."""

    type: str
    text: str | None = None
    image_url: dict[str, Any] | None = None
    input_audio: dict[str, Any] | None = None
    file: dict[str, Any] | None = None


class FunctionCall(msgspec.Struct):
    """Which function the model calls; ``arguments`` is JSON."""

    name: str
    arguments: str


class ToolCall(msgspec.Struct):
    """A tool that the model calls."""

    id: str
    function: FunctionCall
    type: str = "function"


class ChatMessage(msgspec.Struct, omit_defaults=True):
    """A message of a chat."""

    role: Role
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None

    @property
    def text(self) -> str:
        """All text in it."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text or "" for part in self.content or ())


class StreamOptions(msgspec.Struct):
    """What a stream has beside the text."""

    include_usage: bool = False


class _Sampling(msgspec.Struct, kw_only=True):
    """What both kinds of request have."""

    model: str = ""
    temperature: Temperature | None = None
    top_p: Share | None = None
    n: Choices | None = None
    max_tokens: Count | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, float] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None

    @property
    def stops(self) -> list[str]:
        """Texts at which to stop."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


class ChatRequest(_Sampling, kw_only=True):
    """A request for the next message of a chat."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1)]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    reasoning_effort: str | None = None

    @property
    def most_tokens(self) -> int | None:
        """How long the answer may be, by the newer or the older name of that."""
        return self.max_completion_tokens or self.max_tokens


class CompletionRequest(_Sampling, kw_only=True):
    """A request to continue a text."""

    prompt: str | list[str]
    max_tokens: Annotated[int, Meta(ge=0)] | None = None
    suffix: str | None = None
    echo: bool | None = None
    best_of: Choices | None = None
    logprobs: int | None = None

    @property
    def prompts(self) -> list[str]:
        """The texts. Each gets choices of its own, numbered through."""
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt


class Usage(msgspec.Struct):
    """How many tokens there were."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int = 0

    def __post_init__(self) -> None:
        self.total_tokens = self.total_tokens or self.prompt_tokens + self.completion_tokens


class ChatChoice(msgspec.Struct):
    """One of the answers to a chat."""

    message: ChatMessage
    index: int = 0
    finish_reason: FinishReason = "stop"
    logprobs: dict[str, Any] | None = None


class ChatCompletion(msgspec.Struct):
    """The answer to a ``ChatRequest``."""

    choices: Annotated[list[ChatChoice], Meta(extra_json_schema=CHAT)]
    usage: Usage | UnsetType = UNSET

    @classmethod
    def of(
        cls, text: str, *, finish_reason: FinishReason = "stop", usage: Usage | None = None
    ) -> ChatCompletion:
        """Return the answer that is one text."""
        message = ChatMessage(role="assistant", content=text)
        choice = ChatChoice(message, finish_reason=finish_reason)
        return cls([choice], UNSET if usage is None else usage)


class CompletionChoice(msgspec.Struct):
    """One of the continuations of a text."""

    text: str
    index: int = 0
    finish_reason: FinishReason = "stop"
    logprobs: dict[str, Any] | None = None


class Completion(msgspec.Struct):
    """The answer to a ``CompletionRequest``."""

    choices: Annotated[list[CompletionChoice], Meta(extra_json_schema=TEXT)]
    usage: Usage | UnsetType = UNSET

    @classmethod
    def of(
        cls, text: str, *, finish_reason: FinishReason = "stop", usage: Usage | None = None
    ) -> Completion:
        """Return the answer that is one text."""
        choice = CompletionChoice(text, finish_reason=finish_reason)
        return cls([choice], UNSET if usage is None else usage)


class FunctionDelta(msgspec.Struct, omit_defaults=True):
    """The next piece of a ``FunctionCall``; ``arguments`` are put together from all pieces."""

    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(msgspec.Struct):
    """The next piece of a ``ToolCall``: its first has ``id`` and the function's name."""

    index: int
    id: str | UnsetType = UNSET
    function: FunctionDelta | UnsetType = UNSET
    type: str | UnsetType = UNSET


class ChatDelta(msgspec.Struct, omit_defaults=True):
    """What a piece adds to a ``ChatMessage``."""

    content: str | None = None
    tool_calls: list[ToolCallDelta] | None = None
    refusal: str | None = None
    role: Role | None = None


class ChatChunkChoice(msgspec.Struct):
    """The next piece of one of the answers; the last one has a ``finish_reason``."""

    delta: ChatDelta
    index: int = 0
    finish_reason: FinishReason | None = None
    logprobs: dict[str, Any] | None = None


class ChatChunk(msgspec.Struct):
    """A piece of the answer to a ``ChatRequest``. ``usage`` belongs into the last one; clients see
    it who have asked for it.
    """

    choices: Annotated[list[ChatChunkChoice], Meta(extra_json_schema=CHAT)]
    usage: Usage | UnsetType = UNSET

    @classmethod
    def of(cls, text: str, *, index: int = 0) -> ChatChunk:
        """Return the piece that adds a text."""
        return cls([ChatChunkChoice(ChatDelta(text), index)])

    @classmethod
    def end(
        cls, finish_reason: FinishReason = "stop", *, usage: Usage | None = None, index: int = 0
    ) -> ChatChunk:
        """Return the last piece of an answer."""
        choice = ChatChunkChoice(ChatDelta(), index, finish_reason)
        return cls([choice], UNSET if usage is None else usage)


class CompletionChunkChoice(msgspec.Struct):
    """The next piece of a continuation; the last one has a ``finish_reason``."""

    text: str
    index: int = 0
    finish_reason: FinishReason | None = None
    logprobs: dict[str, Any] | None = None


class CompletionChunk(msgspec.Struct):
    """A piece of the answer to a ``CompletionRequest``; see ``ChatChunk``."""

    choices: Annotated[list[CompletionChunkChoice], Meta(extra_json_schema=TEXT)]
    usage: Usage | UnsetType = UNSET

    @classmethod
    def of(cls, text: str, *, index: int = 0) -> CompletionChunk:
        """Return the piece that adds a text."""
        return cls([CompletionChunkChoice(text, index)])

    @classmethod
    def end(
        cls, finish_reason: FinishReason = "stop", *, usage: Usage | None = None, index: int = 0
    ) -> CompletionChunk:
        """Return the last piece of a continuation."""
        choice = CompletionChunkChoice("", index, finish_reason)
        return cls([choice], UNSET if usage is None else usage)
