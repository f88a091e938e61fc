"""Where the pieces of streams come from: a generator, an async one, or a ``StreamingModel``.

A source puts the pieces of each stream into its outlet (``outlets.py``), in turn, and stops for an
outlet that has no room. All of this runs on the runner's event loop, in its one thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Iterator, Sequence
from contextvars import Context, copy_context
from itertools import count
from typing import Any, Protocol

from modelyard.core.errors import StreamBroken
from modelyard.core.stream import WINDOW
from modelyard.model import Model, StreamingModel
from modelyard.runner.concurrent.outlets import ListOutlet, Outlet
from modelyard.runner.concurrent.run import is_told_to_leave

log = logging.getLogger(__name__)

OVERRUN = 4 * WINDOW
"""Pieces that an engine, which cannot be held up, may give to a stream whose reader is slow."""

EMPTY_STEP_S = 0.001  # the pause after a step that has given nothing


class Source(Protocol):
    """Makes the pieces of all streams of one model."""

    def begin(self, outlet: Outlet, instance: Any) -> None:
        """Begin a stream."""
        ...

    def leave(self, outlet: Outlet) -> None:
        """End a stream that nobody reads any longer."""
        ...


def source_of(model: Model) -> Source:
    """Return the source of a model that has streams."""
    if isinstance(model, StreamingModel):
        return EngineSource(model)
    stream = model.stream  # type: ignore[attr-defined]
    return AsyncSource(stream) if inspect.isasyncgenfunction(stream) else GeneratorSource(stream)


class GeneratorSource:
    """Plain generators, which take turns: one piece of each at a time."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._running: dict[Outlet, Iterator[Any]] = {}
        self._contexts: dict[Outlet, Context] = {}  # of the request, for calls of other models
        self._is_turning = False

    def begin(self, outlet: Outlet, instance: Any) -> None:
        """See ``Source``."""
        try:
            self._running[outlet] = iter(self._stream(instance))
            self._contexts[outlet] = copy_context()
        except Exception as error:
            outlet.end(error)
            return
        outlet.on_room = self._turn_soon
        self._turn_soon()

    def leave(self, outlet: Outlet) -> None:
        """See ``Source``."""
        pieces = self._running.pop(outlet, None)
        self._contexts.pop(outlet, None)
        if pieces is not None and (close := getattr(pieces, "close", None)) is not None:
            close()

    def _turn_soon(self) -> None:
        if not self._is_turning:
            self._is_turning = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        """Have each stream make one piece. In between the loop reads what the pool sends."""
        self._is_turning = False
        for outlet, pieces in list(self._running.items()):
            if outlet.room <= 0 or outlet not in self._running:
                continue
            try:
                outlet.put(self._contexts[outlet].run(next, pieces))
            except StopIteration:
                del self._running[outlet], self._contexts[outlet]
                outlet.end(None)
            except BaseException as error:
                self.leave(outlet)
                outlet.end(error)
        if any(outlet.room > 0 for outlet in self._running):
            self._turn_soon()


class AsyncSource:
    """Async generators, each in a task of its own."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._tasks: dict[Outlet, asyncio.Task[None]] = {}

    def begin(self, outlet: Outlet, instance: Any) -> None:
        """See ``Source``."""
        task = asyncio.get_running_loop().create_task(self._pump(outlet, instance))
        self._tasks[outlet] = task
        task.add_done_callback(lambda _: self._tasks.pop(outlet, None))

    def leave(self, outlet: Outlet) -> None:
        """See ``Source``."""
        task = self._tasks.get(outlet)
        if task is not None:
            task.cancel()

    async def _pump(self, outlet: Outlet, instance: Any) -> None:
        has_room = asyncio.Event()
        outlet.on_room = has_room.set
        try:
            async with contextlib.aclosing(self._stream(instance)) as pieces:
                async for piece in pieces:
                    outlet.put(piece)
                    while outlet.room <= 0:
                        has_room.clear()
                        await has_room.wait()
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and is_told_to_leave():
                raise
            outlet.end(error)
        else:
            outlet.end(None)


class EngineSource:
    """A model that makes the next pieces of all streams in one step."""

    def __init__(self, model: StreamingModel) -> None:
        self._model = model
        self._numbers = count()
        self._open: dict[int, Outlet] = {}
        self._stepping: asyncio.Task[None] | None = None

    def begin(self, outlet: Outlet, instance: Any) -> None:
        """See ``Source``."""
        number = next(self._numbers)
        try:
            self._model.admit(number, instance)
        except Exception as error:
            outlet.end(error)
            return
        self._open[number] = outlet
        if self._stepping is None:
            self._stepping = asyncio.get_running_loop().create_task(self._step_on())

    def leave(self, outlet: Outlet) -> None:
        """See ``Source``."""
        for number, other in list(self._open.items()):
            if other is outlet:
                self._drop(number)

    async def _step_on(self) -> None:
        """Step as long as there are streams."""
        try:
            while self._open:
                made = self._model.step()
                if inspect.isawaitable(made):
                    made = await made
                is_empty = True
                for number, piece in made:
                    is_empty = False
                    self._hand(number, piece)
                await asyncio.sleep(EMPTY_STEP_S if is_empty else 0)
        except BaseException as error:
            ended, self._open = self._open, {}
            for outlet in ended.values():
                outlet.end(error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._stepping = None

    def _hand(self, number: int, piece: Any) -> None:
        outlet = self._open.get(number)
        if outlet is None:
            return  # it has left
        if piece is None or isinstance(piece, BaseException):
            del self._open[number]
            outlet.end(piece)
            return
        try:
            outlet.put(piece)
        except BaseException as error:
            self._drop(number)
            outlet.end(error)
            return
        if outlet.room < -OVERRUN:
            self._drop(number)
            outlet.end(StreamBroken("the pieces were read too slowly"))

    def _drop(self, number: int) -> None:
        del self._open[number]
        try:
            self._model.leave(number)
        except Exception:
            log.exception("leave failed")


class Collecting:
    """Predicts with a model that only has a stream: gathers the pieces of each instance."""

    def __init__(self, source: Source) -> None:
        self._source = source

    async def predict(self, instances: Sequence[Any]) -> list[list[Any]]:
        """Return the pieces of each instance; those of all are made at once."""
        outlets = [ListOutlet() for _ in instances]
        for outlet, instance in zip(outlets, instances, strict=True):
            self._source.begin(outlet, instance)
        try:
            return list(await asyncio.gather(*(outlet.done for outlet in outlets)))
        finally:
            for outlet in outlets:
                if not outlet.done.done() or outlet.done.cancelled():
                    self._source.leave(outlet)
