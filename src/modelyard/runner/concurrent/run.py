"""Runs one batch through an async model. The way is that of ``run.py``, whose steps it shares; only
what calls the model is here once more, since it waits.
"""

from __future__ import annotations

import asyncio
from typing import Any

from modelyard.core.called import CallFailed
from modelyard.core.errors import InvalidInput, ModelFailed, RequestError
from modelyard.core.lists import Instances
from modelyard.core.messages import Answers
from modelyard.runner.refusal import refusal
from modelyard.runner.run import FOR_ALL, Good, Run


def is_told_to_leave() -> bool:
    """Return whether the pool has cancelled this task; else a model's own code has cancelled what
    it waits for.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class AsyncRun(Run):
    """The run of one batch; ``answers_async`` has the outcome."""

    async def answers_async(self) -> Answers:
        """Run the batch; cancelled, it has no outcome."""
        good = self._decode_all([])
        try:
            await self._predict_all_async(good)
        except RequestError as error:
            if len(good) == 1 or isinstance(error, FOR_ALL):
                for position, _ in good:
                    self._fail(position, error)
            else:
                await self._run_apart_async([position for position, _ in good], error)
        return self._made()

    async def _run_apart_async(self, positions: list[int], error: RequestError) -> None:
        """Answer each request by itself."""
        is_explained = False
        for position in positions:
            try:
                self._check_time(position)
                await self._predict_all_async([(position, self._decode(position))])
            except RequestError as own_error:
                self._fail(position, own_error)
                is_explained = True
        if not is_explained:
            self._wonder(positions, error)

    async def _predict_all_async(self, good: Good) -> None:
        if good:
            pieces = [
                await self._predict_async(some, first=first) for first, some in self._cut(good)
            ]
            self._write_all(good, pieces)

    async def _predict_async(self, instances: Instances, *, first: int) -> Any:
        """Call the model."""
        count = len(instances)
        started = self._clock()
        try:
            predictions = await self._model.predict(instances)
        except InvalidInput as error:
            raise refusal(error, first=first, count=count) from None
        except asyncio.CancelledError as error:
            if is_told_to_leave():
                raise
            raise ModelFailed(f"the model raised {self._told(error)}") from error
        except CallFailed as error:
            raise error.outcome() from error
        except BaseException as error:
            raise ModelFailed(f"the model raised {self._told(error)}") from error
        finally:
            self._model_s += self._clock() - started
            self._sizes.append(count)
        return self._checked(predictions, count=count)
