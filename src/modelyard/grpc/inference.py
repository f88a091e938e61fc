"""``ModelInfer`` and ``ModelStreamInfer``: from a message to ``PredictEndpoint.begin``, and back.

Messages arrive as bytes; ``door.py`` reads them. A call that its client cancels, or whose deadline
passes, is given up like a request whose HTTP connection is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from modelyard.core.errors import GivenUp, RequestError
from modelyard.gateway.heads import Plan
from modelyard.gateway.predict import PredictEndpoint
from modelyard.gateway.preparing import Predicting
from modelyard.gateway.types import Respond
from modelyard.grpc.callers import fields_of, host_of, vouched, who_in
from modelyard.grpc.door import STATUS_LINE, GrpcDoor
from modelyard.grpc.streaming import Messages

CROWD = 8  # from so many calls in progress on, those that come are gathered
GATHER_S = 0.001
STREAM_WINDOW = 64  # requests of one stream in progress; the next one waits in the client

Context = grpc.aio.ServicerContext[bytes, bytes]


class Inference:
    """One request in progress.

    Args:
        endpoint: Answers it.
        body: The ``ModelInferRequest``.
        context: Of the call that it came by.
        is_streamed: Whether it is one of many in that call.

    Attributes:
        answer: Head and body, as the door gives them, of one that is not.
        messages: The responses to one that is.
    """

    def __init__(
        self, endpoint: PredictEndpoint, body: bytes, context: Context, *, is_streamed: bool
    ) -> None:
        pairs = tuple(context.invocation_metadata() or ())
        sent = dict(pairs)
        self._door = door = GrpcDoor(time_left_s=context.time_remaining(), is_streamed=is_streamed)
        is_bypass = "no-cache" in str(sent.get("cache-control", "")).lower()
        credential = vouched(pairs, context.peer(), endpoint.proxies)
        who = who_in(sent, endpoint.sticky_header)
        self._plan = Plan(
            "v2", is_bypass=is_bypass, coding="", door=door, credential=credential, who=who
        )
        fields = dict(fields_of(pairs))
        trace = fields.get(b"traceparent")
        line = None if trace is None else b"traceparent: " + trace
        self._given = (fields.get(b"x-request-id"), line)
        self._host = host_of(context.peer())
        self.answer: asyncio.Future[tuple[bytes, bytes]] = (
            asyncio.get_running_loop().create_future()
        )
        self.messages = Messages(self._give_back)
        self._respond: Respond = self.messages.writer if is_streamed else self._answer
        self._endpoint = endpoint
        self._body = body
        self._predicting: Predicting | None = None
        self._room = 0

    def begin(self) -> None:
        """Begin to answer, unless nobody waits any more."""
        if self.answer.done():
            return
        endpoint, body, door = self._endpoint, self._body, self._door
        self._body = b""
        try:
            self._room = endpoint.budget.take(len(body))
        except RequestError as error:
            endpoint.refuse(error, self._respond, given=self._given, door=door)
            return
        door.open(body)
        self._predicting = endpoint.begin(
            self._plan, body, self._respond, given=self._given, host=self._host
        )

    def _give_back(self) -> None:
        self._endpoint.budget.give_back(self._room)
        self._room = 0

    def _answer(self, head: bytes, body: bytes) -> None:
        self._give_back()
        if not self.answer.done():
            self.answer.set_result((head, body))

    def give_up(self) -> None:
        """Drop it: nobody waits for the answer any more."""
        self.answer.cancel()
        self._give_back()
        if self._predicting is not None and self._predicting.outcome is None:
            self._predicting.settle(GivenUp("the client has cancelled the call"))


class Crowd:
    """Has requests that come within a millisecond begin together, while many are in progress.

    Each call comes in a turn of the event loop of its own. Begun one by one, 64 callers would be
    answered in batches of two.
    """

    def __init__(self) -> None:
        self._size = 0
        self._waiting: list[Callable[[], None]] = []

    @contextmanager
    def joined_by(self, begin: Callable[[], None]) -> Iterator[None]:
        """Call ``begin``, now or very soon, and count the request as long as the block."""
        self._size += 1
        try:
            if self._size < CROWD:
                begin()
            else:
                if not self._waiting:
                    asyncio.get_running_loop().call_later(GATHER_S, self._begin_all)
                self._waiting.append(begin)
            yield
        finally:
            self._size -= 1

    def _begin_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        for begin in waiting:
            begin()


class InferenceService:
    """Answers inferences by ``endpoint``."""

    def __init__(self, endpoint: PredictEndpoint) -> None:
        self._endpoint = endpoint
        self._crowd = Crowd()

    async def infer(self, body: bytes, context: Context) -> bytes:
        """Answer a ``ModelInfer``."""
        inference = Inference(self._endpoint, body, context, is_streamed=False)
        try:
            with self._crowd.joined_by(inference.begin):
                head, message = await inference.answer
        except asyncio.CancelledError:
            inference.give_up()
            raise
        metadata = _metadata_of(head)
        status = metadata.pop(STATUS_LINE, None)
        pairs = tuple(metadata.items())
        if status is not None:
            await context.abort(grpc.StatusCode[status], message.decode(), pairs)
        context.set_trailing_metadata(pairs)
        return message

    async def infer_stream(
        self, bodies: AsyncIterator[bytes], context: Context
    ) -> AsyncIterator[bytes]:
        """Answer a ``ModelStreamInfer``. Its requests run side by side; the answers keep their
        order. One that fails is answered with ``error_message``, and the stream goes on.
        """
        begun: asyncio.Queue[Inference | Exception | None] = asyncio.Queue(STREAM_WINDOW)

        async def read() -> None:
            end = None
            try:
                async for body in bodies:
                    one = Inference(self._endpoint, body, context, is_streamed=True)
                    one.begin()
                    try:
                        await begun.put(one)
                    except asyncio.CancelledError:
                        one.give_up()
                        raise
            except Exception as error:  # raised again by the other side of the queue
                end = error
            await begun.put(end)

        reading = asyncio.create_task(read())
        current: Inference | Exception | None = None
        try:
            while isinstance(current := await begun.get(), Inference):
                async for message in current.messages:
                    yield message
            if current is not None:
                raise current
        finally:
            reading.cancel()
            for left in (current, *(begun.get_nowait() for _ in range(begun.qsize()))):
                if isinstance(left, Inference):
                    left.give_up()


def _metadata_of(head: bytes) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in head.decode().splitlines())


def handlers_of(endpoint: PredictEndpoint) -> dict[str, Any]:
    """Return the handlers by the names of the calls. Messages are bytes, both ways."""
    service = InferenceService(endpoint)
    return {
        "ModelInfer": grpc.unary_unary_rpc_method_handler(service.infer),
        "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(service.infer_stream),
    }
