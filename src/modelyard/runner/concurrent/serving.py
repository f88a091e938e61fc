"""The runner's loop for a model that has several batches or streams under way.

``runner/__main__.py`` calls ``serve`` in place of its own, blocking loop. Frames from the pool
arrive in ``data_received``. A batch becomes a task (``run.py``), or runs at once if
``predict`` is not async; a stream is begun at its source (``sources.py``), whose pieces go to the
pool by ``outlets.py``.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from modelyard.core.errors import GivenUp, InvalidInput, RequestError
from modelyard.core.messages import (
    FRAME_HEADER_BYTES,
    Answers,
    Batch,
    Begin,
    Done,
    Grant,
    Leave,
    Pieces,
    Said,
    Stop,
    encode_frame,
    to_runner,
)
from modelyard.runner.concurrent.host import ConcurrentModel
from modelyard.runner.concurrent.metering import LoopMetering
from modelyard.runner.concurrent.outlets import Gathered, WireOutlet
from modelyard.runner.concurrent.reports import TaskReports
from modelyard.runner.host import HostedModel

TIDY_AFTER_S = 0.5


def serve(channel: socket.socket, hosted: HostedModel, *, tidy_up: Callable[[], None]) -> None:
    """Answer what comes through the channel until it closes, or a ``Stop`` comes."""
    assert isinstance(hosted, ConcurrentModel)
    loop = hosted.the_loop()
    channel.setblocking(False)
    ended = loop.create_future()
    _, serving = loop.run_until_complete(
        loop.create_unix_connection(partial(Serving, hosted, ended), sock=channel)
    )
    loop.call_later(TIDY_AFTER_S, tidy_up)
    loop.run_until_complete(ended)
    hosted.unload()
    loop.run_until_complete(_end(serving))


async def _end(serving: Serving) -> None:
    serving.metering.tell()
    await asyncio.sleep(0)  # the turn in which it is sent
    tasks = asyncio.all_tasks() - {cast("asyncio.Task[Any]", asyncio.current_task())}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Serving(asyncio.Protocol):
    """The connection to the pool.

    Args:
        hosted: The model.
        ended: Done when nothing more is to be answered.

    Attributes:
        metering: Tells what the model measures.
    """

    def __init__(self, hosted: ConcurrentModel, ended: asyncio.Future[None]) -> None:
        self._hosted = hosted
        self._ended = ended
        self._received = bytearray()
        self._leaving = bytearray()
        self._tasks: dict[int, asyncio.Task[Answers]] = {}
        self._outlets: dict[int, WireOutlet] = {}
        self._gathered = Gathered(self._send)
        self._transport: asyncio.Transport
        hosted.report_by(TaskReports(self._id_of, self._send))
        self.metering = LoopMetering(hosted.metrics, self._send)

    def _id_of(self, task: asyncio.Task[Any]) -> int | None:
        return next((id_ for id_, one in self._tasks.items() if one is task), None)

    # Called by the loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport (called by the loop)."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Split the data into messages (called by the loop)."""
        received = self._received
        received += data
        while len(received) >= FRAME_HEADER_BYTES:
            end = FRAME_HEADER_BYTES + int.from_bytes(received[:FRAME_HEADER_BYTES], "big")
            if len(received) < end:
                return
            # A copy, since what is decoded refers to it.
            message = to_runner.decode(bytes(received[FRAME_HEADER_BYTES:end]))
            del received[:end]
            self._on_message(message)

    def connection_lost(self, exc: Exception | None) -> None:
        """End (called by the loop)."""
        if not self._ended.done():
            self._ended.set_result(None)

    # What the pool says.

    def _on_message(self, message: Batch | Stop | Begin | Leave | Grant) -> None:
        if isinstance(message, Begin):
            if message.is_stream:
                self._begin_stream(message)
            else:
                self._begin(message)
        elif isinstance(message, Grant):
            if (outlet := self._outlets.get(message.id)) is not None:
                outlet.grant(message.pieces)
        elif isinstance(message, Leave):
            for id_ in message.ids:
                self._leave(id_)
        else:
            self.connection_lost(None)

    def _begin(self, begin: Begin) -> None:
        if not self._hosted.is_async:
            answers = self._hosted.answer(begin.inputs, begin.forms, origins=begin.origins)
            self._send(Done(begin.id, answers))
            return
        answering = self._hosted.answer_async(begin.inputs, begin.forms, begin.origins)
        task = self._tasks[begin.id] = asyncio.get_running_loop().create_task(answering)
        task.add_done_callback(partial(self._on_answered, begin))

    def _on_answered(self, begin: Begin, task: asyncio.Task[Answers]) -> None:
        del self._tasks[begin.id]
        if task.cancelled():
            left = GivenUp("nobody waits for the answer any more").to_failure()
            answers = Answers([left] * len(begin.inputs), 0.0, [])
        else:
            answers = task.result()
        self._send(Done(begin.id, answers))

    def _begin_stream(self, begin: Begin) -> None:
        hosted, pieces, source = self._hosted, self._hosted.contract.pieces, self._hosted.source
        self._gathered.begin(begin.id)
        try:
            if pieces is None or source is None:
                raise InvalidInput("the model gives no pieces; ask for the answer as a whole")
            form = begin.forms[0] if begin.forms else "json"
            instance = hosted.contract.decode_one(begin.inputs[0], form)
        except RequestError as error:
            self._gathered.end(begin.id, error.to_failure())
            return
        outlet = self._outlets[begin.id] = WireOutlet(
            begin.id,
            self._gathered,
            encode=pieces.encode,
            explain=hosted.explain,
            on_end=self._outlets.pop,
        )
        hosted.streams_for(begin.origins)
        source.begin(outlet, instance)

    def _leave(self, id_: int) -> None:
        if (task := self._tasks.get(id_)) is not None:
            task.cancel()
        elif (outlet := self._outlets.get(id_)) is not None and self._hosted.source is not None:
            self._hosted.source.leave(outlet)
            outlet.end(GivenUp("nobody reads the answer any more"))

    def _send(self, message: Done | Pieces | Said) -> None:
        """Send at the end of this turn of the loop: what ends in it goes in one system call."""
        if not self._leaving:
            asyncio.get_running_loop().call_soon(self._flush)
        self._leaving += encode_frame(message)

    def _flush(self) -> None:
        leaving, self._leaving = self._leaving, bytearray()
        if not self._transport.is_closing():
            self._transport.write(leaving)
