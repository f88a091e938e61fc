"""The whole answer of a model that gives it only in pieces, for clients that want it as a whole."""

from __future__ import annotations

import msgspec

from modelyard.openai import (
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatMessage,
    Completion,
    CompletionChoice,
    CompletionChunk,
    FunctionCall,
    ToolCall,
)

_chat_chunks = msgspec.json.Decoder(list[list[ChatChunk]]).decode
_text_chunks = msgspec.json.Decoder(list[list[CompletionChunk]]).decode
_encode = msgspec.json.Encoder().encode


def join_chat(output: bytes) -> bytes:
    """Return the list with the one ``ChatCompletion`` that the pieces of an answer make."""
    chunks = _chat_chunks(output)[0]
    found: dict[int, ChatChoice] = {}
    for chunk in chunks:
        for piece in chunk.choices:
            choice = found.get(piece.index)
            if choice is None:
                message = ChatMessage(role="assistant", content="")
                choice = found[piece.index] = ChatChoice(message, piece.index)
            delta, message = piece.delta, choice.message
            if delta.content:
                message.content = message.text + delta.content
            if delta.refusal:
                message.refusal = (message.refusal or "") + delta.refusal
            for call in delta.tool_calls or ():
                calls = message.tool_calls = message.tool_calls or []
                if call.index >= len(calls):
                    calls.append(ToolCall(call.id or "", FunctionCall("", "")))
                function = calls[call.index].function
                if call.function:
                    function.name += call.function.name or ""
                    function.arguments += call.function.arguments or ""
            choice.finish_reason = piece.finish_reason or choice.finish_reason
    usage = next((chunk.usage for chunk in reversed(chunks) if chunk.usage), msgspec.UNSET)
    return _encode([ChatCompletion([found[index] for index in sorted(found)], usage)])


def join_text(output: bytes) -> bytes:
    """Return the list with the one ``Completion`` that the pieces of an answer make."""
    chunks = _text_chunks(output)[0]
    found: dict[int, CompletionChoice] = {}
    for chunk in chunks:
        for piece in chunk.choices:
            choice = found.setdefault(piece.index, CompletionChoice("", piece.index))
            choice.text += piece.text
            choice.finish_reason = piece.finish_reason or choice.finish_reason
    usage = next((chunk.usage for chunk in reversed(chunks) if chunk.usage), msgspec.UNSET)
    return _encode([Completion([found[index] for index in sorted(found)], usage)])
