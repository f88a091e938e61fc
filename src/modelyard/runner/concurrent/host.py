"""A loaded model that has several batches or streams under way, on an event loop of its own.

Path of a request: ``serving.py`` calls ``answer_async`` with the inputs of a batch, or begins a
stream at the ``source``.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar

from modelyard.core.called import CallFailed
from modelyard.core.contract import has_predict
from modelyard.core.errors import Failure, InvalidInput, ModelFailed, RequestError
from modelyard.core.lists import UnfitPredictions
from modelyard.core.messages import Answers, Form, Origin
from modelyard.runner.concurrent.run import AsyncRun
from modelyard.runner.concurrent.sources import Collecting, source_of
from modelyard.runner.host import HostedModel
from modelyard.runner.loading import describe
from modelyard.runner.run import SEE_LOG, Rules, Run

log = logging.getLogger(__name__)


class ConcurrentModel(HostedModel):
    """One model, loaded and warm; see ``HostedModel``.

    Attributes:
        source: Makes the pieces of streams; None if there are none.
        is_async: Whether batches are answered by ``answer_async``.
    """

    is_concurrent = True
    loop: ClassVar[asyncio.AbstractEventLoop | None] = None
    """That on which the model of this process runs."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        has_pieces = self.contract.pieces is not None
        self.source = source_of(self._model) if has_pieces else None
        if self.source is not None and not has_predict(type(self._model)):
            self._subject = self._subject._replace(model=Collecting(self.source))
        self.is_async = inspect.iscoroutinefunction(self._subject.model.predict)

    @classmethod
    def call(cls, method: Callable[[], Any]) -> None:
        """See ``HostedModel``."""
        value = method()
        if inspect.isawaitable(value):
            cls.run_on_loop(value)

    @classmethod
    def run_on_loop(cls, value: Awaitable[Any]) -> Any:
        """Return the result of an awaitable."""
        return cls.the_loop().run_until_complete(_wait_for(value))

    @staticmethod
    def the_loop() -> asyncio.AbstractEventLoop:
        """Return the loop that the model of this process runs on."""
        if ConcurrentModel.loop is None:
            ConcurrentModel.loop = asyncio.new_event_loop()
        return ConcurrentModel.loop

    def _run_once(self, rules: Rules, raw: bytes) -> tuple[Run, Answers]:
        if not self.is_async:
            return super()._run_once(rules, raw)
        run = AsyncRun(self._subject, rules, [raw], ["json"])
        return run, self.run_on_loop(run.answers_async())

    def answer(
        self,
        inputs: Sequence[bytes | memoryview],
        forms: Sequence[Form] = (),
        deadlines: Sequence[float] = (),
        origins: Sequence[Origin] = (),
    ) -> Answers:
        """See ``HostedModel``; not while the loop runs, if the model is async."""
        if not self.is_async:
            return super().answer(inputs, forms, deadlines, origins)
        answers: Answers = self.run_on_loop(self.answer_async(inputs, forms, origins))
        return answers

    async def answer_async(
        self,
        inputs: Sequence[bytes | memoryview],
        forms: Sequence[Form],
        origins: Sequence[Origin] = (),
    ) -> Answers:
        """Return what ``answer`` does, of a model whose ``predict`` is async."""
        forms = forms or ["json"] * len(inputs)
        run = AsyncRun(self._subject, self._rules, inputs, forms, origins)
        if self._spans is None or not origins:
            return await run.answers_async()
        with self._spans.batch(origins):
            return await run.answers_async()

    def streams_for(self, origins: Sequence[Origin]) -> None:
        """Note for which request the stream is that begins now, if the model calls others."""
        if self._caller is not None and origins:
            self._caller.streams_for(origins[0])

    def explain(self, error: BaseException) -> Failure:
        """Return the failure of a stream that was ended by an exception, and log it."""
        name = type(self._model).__name__
        if isinstance(error, InvalidInput):
            where = error.where or "$.input_data"
            return InvalidInput(error.detail, where=where).to_failure()
        if isinstance(error, RequestError):
            return error.to_failure()
        if isinstance(error, CallFailed):
            return error.outcome().to_failure()
        if isinstance(error, UnfitPredictions):
            return ModelFailed(f"{name}: {error}").to_failure()
        what = describe(error, self._folder)
        log.error("model_failed: %s", what, exc_info=error)
        told = what if self._rules.shows_errors else f"{type(error).__name__}; {SEE_LOG}"
        return ModelFailed(f"the model raised {told}").to_failure()


async def _wait_for(value: Awaitable[Any]) -> Any:
    return await value
