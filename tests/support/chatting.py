"""Models that OpenAI's clients ask, written into a folder of a test's own."""

from __future__ import annotations

from pathlib import Path

PARROT = """
import time

from modelyard import InvalidInput, Model
from modelyard.openai import (
    ChatChoice,
    ChatCompletion,
    ChatMessage,
    ChatRequest,
    FunctionCall,
    ToolCall,
    Usage,
)


def answer(request: ChatRequest) -> ChatCompletion:
    words = request.messages[-1].text.split()
    if words[:1] == ["sleep"]:
        time.sleep(float(words[1]))
    if words[:1] == ["raise"]:
        raise ValueError("secret")
    if words[:1] == ["refuse"]:
        raise InvalidInput("not that word", where="$.input_data[0].messages[0].content")
    usage = Usage(sum(len(m.text.split()) for m in request.messages), len(words))
    if request.tools:
        name = request.tools[0]["function"]["name"]
        call = ToolCall("call_1", FunctionCall(name, '{"word":"%s"}' % words[0]))
        message = ChatMessage(role="assistant", tool_calls=[call])
        return ChatCompletion([ChatChoice(message, finish_reason="tool_calls")], usage)
    most = request.most_tokens or len(words)
    reason = "length" if most < len(words) else "stop"
    text = " ".join(words[:most])
    choices = [
        ChatChoice(ChatMessage(role="assistant", content=text), number, reason)
        for number in range(request.n or 1)
    ]
    return ChatCompletion(choices, usage)


class Parrot(Model):
    def predict(self, instances: list[ChatRequest]) -> list[ChatCompletion]:
        return [answer(request) for request in instances]
"""

WRITER = """
from modelyard import Model
from modelyard.openai import Completion, CompletionChoice, CompletionRequest, Usage


class Writer(Model):
    def predict(self, instances: list[CompletionRequest]) -> list[Completion]:
        return [
            Completion(
                [CompletionChoice(p[::-1], n) for n, p in enumerate(request.prompts)], Usage(1, 2)
            )
            for request in instances
        ]
"""

EMBEDDER = """
from typing import Annotated

import numpy as np

from modelyard import Model, Tensor


class Embedder(Model):
    def predict(self, instances: list[str]) -> Annotated[np.ndarray, Tensor("float32", (3,))]:
        rows = [[len(text), text.count("a"), 0.5] for text in instances]
        return np.array(rows, dtype="float32")
"""

LISTER = """
from modelyard import Model


class Lister(Model):
    def predict(self, instances: list[str]) -> list[list[float]]:
        return [[len(text), text.count("a"), 0.5] for text in instances]
"""

TELLER = '''
import asyncio
from collections.abc import AsyncIterator

from modelyard import InvalidInput, Model
from modelyard.openai import (
    ChatChunk,
    ChatChunkChoice,
    ChatDelta,
    ChatRequest,
    FunctionDelta,
    ToolCallDelta,
    Usage,
)


class Teller(Model):
    """Only gives pieces."""

    async def stream(self, instance: ChatRequest) -> AsyncIterator[ChatChunk]:
        words = instance.messages[-1].text.split()
        if words[0] == "refuse":
            raise InvalidInput("not that word")
        if instance.tools:
            name = instance.tools[0]["function"]["name"]
            call = ToolCallDelta(0, "call_1", FunctionDelta(name, ""), "function")
            yield ChatChunk([ChatChunkChoice(ChatDelta(tool_calls=[call]))])
            for piece in ('{"word":', '"one"}'):
                call = ToolCallDelta(0, function=FunctionDelta(arguments=piece))
                yield ChatChunk([ChatChunkChoice(ChatDelta(tool_calls=[call]))])
            yield ChatChunk.end("tool_calls")
            return
        for number, word in enumerate(words):
            if word == "raise":
                raise ValueError("secret")
            while word == "forever":
                yield ChatChunk.of("on and ")
                await asyncio.sleep(0.02)
            yield ChatChunk.of(word if not number else f" {word}")
        if words[0] != "abrupt":
            yield ChatChunk.end("length", usage=Usage(3, len(words)))
'''

TYPIST = """
from collections.abc import Iterator

from modelyard import Model
from modelyard.openai import Completion, CompletionChunk, CompletionRequest


class Typist(Model):
    def predict(self, instances: list[CompletionRequest]) -> list[Completion]:
        return [Completion.of(request.prompts[0][::-1]) for request in instances]

    def stream(self, instance: CompletionRequest) -> Iterator[CompletionChunk]:
        for letter in reversed(instance.prompts[0]):
            yield CompletionChunk.of(letter)
"""

SCRIBE = """
from collections.abc import Iterator

from modelyard import Model
from modelyard.openai import CompletionChunk, CompletionChunkChoice, CompletionRequest, Usage


class Scribe(Model):
    def stream(self, instance: CompletionRequest) -> Iterator[CompletionChunk]:
        for number in range(instance.n or 1):
            for letter in instance.prompts[0]:
                yield CompletionChunk([CompletionChunkChoice(letter, number)])
            yield CompletionChunk([CompletionChunkChoice("", number, "length")])
        yield CompletionChunk([], Usage(1, len(instance.prompts[0])))
"""

_MODELS = {
    **{"parrot": PARROT, "writer": WRITER, "embedder": EMBEDDER, "lister": LISTER},
    **{"teller": TELLER, "typist": TYPIST, "scribe": SCRIBE},
}
_CONCURRENT = ("teller", "typist", "scribe")


def write_chatting(folder: Path) -> Path:
    """Write all of them; gives the folder that holds them."""
    for name, code in _MODELS.items():
        write_model(folder, name, code)
    return folder


def write_model(folder: Path, name: str, code: str) -> Path:
    """Write one, which caches nothing; gives its folder."""
    (folder / name / "src").mkdir(parents=True)
    manifest = f'name = "{name}"\nversion = "1"\nclass = "model:{name.title()}"\n'
    manifest += "[cache]\nttl_s = 0\n"
    manifest += "[batching]\nconcurrency = 16\n" if name in _CONCURRENT else ""
    (folder / name / "model.toml").write_text(manifest, encoding="utf-8")
    (folder / name / "src" / "model.py").write_text(code, encoding="utf-8")
    return folder / name
