"""Answers in pieces over ``ModelStreamInfer``: one request, several responses.

A client asks for it as Triton's do, by the parameter ``triton_enable_empty_final_response``. Each
piece is a response with one tensor ``output`` of BYTES: a text as it is, anything else as JSON. The
last response has no outputs, and says ``triton_final_response``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import msgspec

from modelyard.core.errors import RequestError
from modelyard.core.names import Target
from modelyard.gateway.answer import sentence_of
from modelyard.gateway.problems import problem_of
from modelyard.gateway.stream_writer import StreamWriter
from modelyard.grpc.messages import message_class

ASKED_BY = "triton_enable_empty_final_response"
_FINAL = "triton_final_response"
_LENGTH_BYTES = 4

InferResponse = message_class("ModelInferResponse")
StreamResponse = message_class("ModelStreamInferResponse")


class PieceMessages:
    """The format of one answer: messages, each behind its length.

    Args:
        id_: The request's own.
    """

    media_type = b""
    comment = b""

    def __init__(self, id_: str) -> None:
        self._id = id_

    def piece(self, target: Target, piece: bytes) -> bytes:
        """See ``StreamFormat``."""
        value = msgspec.json.decode(piece, type=str).encode() if piece[:1] == b'"' else piece
        response = self._response(target, is_final=False)
        output = response.outputs.add(name="output", datatype="BYTES")
        output.shape.append(1)
        response.raw_output_contents.append(len(value).to_bytes(_LENGTH_BYTES, "little") + value)
        return _framed(StreamResponse(infer_response=response))

    def end(self, target: Target, *, pieces: int) -> bytes:
        """See ``StreamFormat``."""
        return _framed(StreamResponse(infer_response=self._response(target, is_final=True)))

    def error(self, error: RequestError, request_id: str) -> bytes:
        """See ``StreamFormat``."""
        sentence = sentence_of(problem_of(error, request_id=request_id), input_name="instances")
        message = StreamResponse(error_message=sentence)
        message.infer_response.id = self._id
        return _framed(message)

    def _response(self, target: Target, *, is_final: bool) -> Any:
        response = InferResponse(model_name=target.name, model_version=target.version, id=self._id)
        response.parameters[_FINAL].bool_param = is_final
        return response


def _framed(message: Any) -> bytes:
    content: bytes = message.SerializeToString()
    return len(content).to_bytes(_LENGTH_BYTES, "big") + content


class Messages:
    """The responses to one request of a stream, as a ``StreamWriter`` sees its connection.

    Args:
        on_end: Called when there will be no more.

    Attributes:
        writer: Writes them.
    """

    def __init__(self, on_end: Callable[[], None]) -> None:
        self.writer = StreamWriter(self, is_chunked=False)
        self.transport = cast("asyncio.Transport", self)
        self._waiting: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._on_end = on_end

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._all()

    async def _all(self) -> AsyncIterator[bytes]:
        while (message := await self._waiting.get()) is not None:
            yield message
            if self._waiting.empty() and self.writer.is_paused:
                self.writer.resume_writing()  # the client has taken it

    # What a StreamWriter calls.

    def respond(self, head: bytes, body: bytes) -> None:
        """Answer with one message."""
        self._waiting.put_nowait(body)
        self.on_answered()

    def complete(self, head: bytes) -> bytes:
        """Return nothing: a stream of messages has no head of its own."""
        return b""

    def on_answered(self) -> None:
        """End the responses."""
        self._waiting.put_nowait(None)
        self._on_end()

    def is_closing(self) -> bool:
        """Return whether nothing can be sent any more; a call that is gone is cancelled."""
        return False

    def write(self, data: bytes) -> None:
        """Send the messages in ``data``."""
        left = memoryview(data)
        while left:
            end = _LENGTH_BYTES + int.from_bytes(left[:_LENGTH_BYTES], "big")
            self._waiting.put_nowait(bytes(left[_LENGTH_BYTES:end]))
            left = left[end:]
            self.writer.pause_writing()
