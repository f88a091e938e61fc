"""Runs one batch through the model. The last stop before ``Model.predict``.

Path of a request: ``HostedModel.answer`` calls ``answers``. Inputs are decoded by
``core/contract.py``, ``_predict`` calls the model, and ``_write`` encodes the predictions.

Each input is decoded and checked by itself, so an invalid one never reaches ``predict``. The valid
ones run together; if ``predict`` raises, they run again one request at a time, so that only the
culprit fails.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from modelyard.core.called import CallFailed
from modelyard.core.contract import Contract
from modelyard.core.errors import (
    Cancelled,
    DeadlineExceeded,
    Failure,
    InvalidInput,
    ModelFailed,
    RequestError,
    Unavailable,
)
from modelyard.core.lists import Instances, UnfitPredictions
from modelyard.core.messages import Answers, Form, Origin
from modelyard.core.objects import LONGEST_PLAIN_BYTES
from modelyard.core.v2 import Wanted
from modelyard.runner.loading import describe
from modelyard.runner.refusal import refusal
from modelyard.runner.reports import WHOLE

log = logging.getLogger(__name__)

SEE_LOG = "see the server's log for this request id"
_TITLES: dict[Form, str] = {
    "json": "JSON",
    "msgpack": "MessagePack",
    "raw": "JSON",
    "v2": "tensors",
}

FOR_ALL = (Unavailable, Cancelled)
"""Errors of a batch that are those of each request in it."""

Good = list[tuple[int, Instances]]
"""The valid inputs: their positions in the batch, and their instances."""


class Rules(msgspec.Struct, frozen=True):
    """How batches are run.

    Attributes:
        max_batch_size: Most instances in one ``predict`` call.
        is_checked: Whether predictions are checked against their annotation.
        shows_errors: Whether callers see the text of the model's exceptions, or only the type.
    """

    max_batch_size: int
    is_checked: bool
    shows_errors: bool


class Predictor(Protocol):
    """What answers batches: a ``Model``, or what makes predictions of its stream."""

    def predict(self, instances: Any) -> Any:
        """See ``Model``."""
        ...


class Subject(NamedTuple):
    """The model that batches are run through.

    ``model`` has its ``predict``. ``folder`` is the model's, used to find its own lines in a
    traceback. ``clock`` returns monotonic seconds. ``name``: of the model's class. ``asked_by`` is
    told for which requests the model is called, if it calls others.
    """

    model: Predictor
    contract: Contract
    folder: Path
    clock: Callable[[], float]
    name: str
    asked_by: Callable[[Sequence[Origin]], None] | None = None


class Run:
    """The run of one batch; ``answers`` has the outcome.

    ``raised``: by the position of each input for which the model failed with an exception, that
    exception.

    Args:
        subject: The model that runs it.
        rules: How it is run.
        inputs: As received, one per request.
        forms: Of each input and its outcome.
        origins: Of each input, if the model calls others.
    """

    def __init__(
        self,
        subject: Subject,
        rules: Rules,
        inputs: Sequence[bytes | memoryview],
        forms: Sequence[Form],
        origins: Sequence[Origin] = (),
    ) -> None:
        self._model, self._contract, self._folder, self._clock, self._name, asked_by = subject
        self._asked_by = asked_by
        self._origins = origins
        self._rules = rules
        self._inputs = inputs
        self._forms = forms
        self.raised: dict[int, BaseException] = {}
        self._outcomes: list[bytes | Failure] = [b""] * len(inputs)
        self._wanted: dict[int, list[Wanted]] = {}  # outputs, of inputs that are tensors
        self._model_s = 0.0
        self._sizes: list[int] = []

    def answers(self, deadlines: Sequence[float]) -> Answers:
        """Run the batch; requests whose deadline has passed are not run."""
        good = self._decode_all(deadlines)
        try:
            self._predict_all(good)
        except RequestError as error:
            if len(good) == 1 or isinstance(error, FOR_ALL):
                for position, _ in good:
                    self._fail(position, error)
            else:
                self._run_apart([position for position, _ in good], error)
        return self._made()

    def _made(self) -> Answers:
        return Answers(outcomes=self._outcomes, model_s=self._model_s, sizes=self._sizes)

    def _decode_all(self, deadlines: Sequence[float]) -> Good:
        good: Good = []
        now = self._clock()
        for position in range(len(self._inputs)):
            try:
                if deadlines and deadlines[position] <= now:
                    raise DeadlineExceeded("the deadline passed while another batch ran")
                good.append((position, self._decode(position)))
            except RequestError as error:
                self._fail(position, error)
        return good

    def _decode(self, position: int) -> Instances:
        raw, form = self._inputs[position], self._forms[position]
        if form != "v2":
            return self._contract.decode(raw, form)
        instances, self._wanted[position] = self._contract.decode_tensors(raw)
        return instances

    def _run_apart(self, positions: list[int], error: RequestError) -> None:
        """Answer each request by itself. They are decoded again, since the model may have modified
        its arguments.
        """
        is_explained = False
        for position in positions:
            try:
                self._check_time(position)
                self._predict_all([(position, self._decode(position))])
            except RequestError as own_error:
                self._fail(position, own_error)
                is_explained = True
        if not is_explained:
            self._wonder(positions, error)

    def _check_time(self, position: int) -> None:
        """Raise a DeadlineExceeded for a request that is late by now, as far as that is known."""
        if self._origins and self._origins[position].deadline <= self._clock():
            raise DeadlineExceeded("the deadline passed while the batch that it was in ran")

    def _wonder(self, positions: list[int], error: RequestError) -> None:
        """Log that a batch failed, and none of its requests."""
        log.warning(
            "%s: a batch of %d requests failed, but each request succeeded by itself",
            error.detail,
            len(positions),
            exc_info=error.__cause__,
            extra={"inputs": positions},
        )

    def _fail(self, position: int, error: RequestError) -> None:
        """Record a request's failure, and log the exception that caused it."""
        self._outcomes[position] = error.to_failure()
        if (cause := error.__cause__) is not None:
            if isinstance(error, ModelFailed):
                self.raised[position] = cause
            level = logging.WARNING if isinstance(error, InvalidInput) else logging.ERROR
            what = describe(cause, self._folder)
            log.log(level, "%s: %s", error.code, what, exc_info=cause, extra={"inputs": [position]})

    def _predict_all(self, good: Good) -> None:
        """Answer all of ``good`` together, in calls of at most ``max_batch_size`` instances."""
        if not good:
            return
        pieces = [self._predict(some, first=first) for first, some in self._cut(good)]
        self._write_all(good, pieces)

    def _cut(self, good: Good) -> Iterable[tuple[int, Instances]]:
        """Join the instances of all, and return what each call gets, with its first one's index."""
        if self._origins and self._asked_by is not None:
            self._asked_by([self._origins[position] for position, _ in good])
        instances = self._contract.join([part for _, part in good])
        total, step = len(instances), self._rules.max_batch_size
        if total <= step:
            return [(0, instances)]
        return self._parts(instances, step)

    def _parts(self, instances: Instances, step: int) -> Iterator[tuple[int, Instances]]:
        """Yield what each call gets. What the model says of its progress is about that part."""
        total, reports = len(instances), getattr(self._model, "_reports", None)
        try:
            for start in range(0, total, step):
                if reports is not None:
                    reports.part = (start / total, min(step, total - start) / total)
                yield start, instances[start : start + step]
        finally:
            if reports is not None:
                reports.part = WHOLE

    def _write_all(self, good: Good, pieces: list[Any]) -> None:
        """Write the predictions of several calls, to each request its own."""
        if len(good) == len(pieces) == 1:
            self._write(good[0][0], pieces[0])
            return
        try:
            predictions = self._contract.join_predictions(pieces)
            ends = list(accumulate((len(part) for _, part in good), initial=0))
            parts = [predictions[start:end] for start, end in pairwise(ends)]
        except Exception as error:
            kind, problem = type(pieces[0]).__name__, self._told(error)
            raise ModelFailed(f"predictions of type {kind} cannot be sliced: {problem}") from error
        for (position, _), part in zip(good, parts, strict=True):
            self._write(position, part)

    def _predict(self, instances: Instances, *, first: int) -> Any:
        """Call the model; ``first``: index of the first instance within the batch."""
        count = len(instances)  # before the model can modify them
        started = self._clock()
        try:
            predictions = self._model.predict(instances)
        except InvalidInput as error:
            raise refusal(error, first=first, count=count) from None
        except CallFailed as error:
            raise error.outcome() from error
        except Cancelled as error:
            raise self._stopped(error) from None
        except BaseException as error:  # extensions may raise a bare BaseException
            raise ModelFailed(f"the model raised {self._told(error)}") from error
        finally:
            self._model_s += self._clock() - started
            self._sizes.append(count)
        return self._checked(predictions, count=count)

    def _stopped(self, error: Cancelled) -> RequestError:
        """Return what a model has raised to stop. Others are never left without an answer by it."""
        is_cancelled: Callable[[], bool] = getattr(self._model, "is_cancelled", bool)
        return error if is_cancelled() else ModelFailed("the model raised Cancelled for no reason")

    def _checked(self, predictions: Any, *, count: int) -> Any:
        """Return the predictions of a call, if there is one for each instance."""
        name = f"{self._name}.predict"
        try:
            problem = self._contract.check_predictions(predictions, count=count)
        except UnfitPredictions as error:
            raise ModelFailed(f"{name} {error}") from None
        except Exception as error:  # it returned something that only looks like an array
            kind = type(predictions).__name__
            problem = f"{name} returned {kind}, which raised {self._told(error)}"
            raise ModelFailed(problem) from error
        if problem:
            raise ModelFailed(f"{name} {problem}; return one per instance, in the same order")
        return predictions

    def _write(self, position: int, predictions: Any) -> None:
        form = self._forms[position]
        try:
            is_checked = self._rules.is_checked
            if form == "v2":
                wanted = self._wanted[position]
                output = self._contract.encode_tensors(predictions, wanted, is_checked=is_checked)
            else:
                output = self._contract.encode(predictions, form, is_checked=is_checked)
        except UnfitPredictions as error:
            raise ModelFailed(f"{self._name}.predict: {error}") from None
        except Exception as error:
            problem = self._told(error)
            raise ModelFailed(
                f"the predictions cannot be written as {_TITLES[form]}: {problem}"
            ) from error
        if len(output) > LONGEST_PLAIN_BYTES and len(output) > (most := self._most(position)):
            raise ModelFailed(
                f"the predictions take {len(output)} bytes, over the limit of {most}; send fewer "
                "instances per request"
            )
        self._outcomes[position] = output

    def _most(self, position: int) -> int:
        """Return how many bytes an answer may have."""
        errand = self._origins[position].trail.errand if self._origins else None
        return LONGEST_PLAIN_BYTES if errand is None else errand.most_bytes

    def _told(self, error: BaseException) -> str:
        """Describe an exception to a caller: its text may contain paths and secrets."""
        if self._rules.shows_errors:
            return describe(error, self._folder)
        return f"{type(error).__name__}; {SEE_LOG}"
