"""A loaded model that answers batches of raw inputs.

Path of a request: ``runner/__main__.py`` calls ``answer`` with the inputs of a batch, which makes a
``Run`` of it (``run.py``); that calls ``Model.predict``.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from modelyard.core.artefacts import ArtefactError
from modelyard.core.contract import Contract, contract_between, contract_of
from modelyard.core.errors import DeadlineExceeded, Failure, InvalidInput, Unavailable
from modelyard.core.lists import ContractError
from modelyard.core.manifest import Manifest
from modelyard.core.messages import Answers, Form, Origin, Ready
from modelyard.folder import digest_folder, read_manifest
from modelyard.model import Calls, Model, Reports
from modelyard.runner.loading import (
    LoadError,
    as_artefact_error,
    as_load_error,
    describe,
    import_class,
    source_of,
)
from modelyard.runner.metering import metrics_of
from modelyard.runner.run import Rules, Run, Subject

if TYPE_CHECKING:
    from modelyard.calling.caller import Caller
    from modelyard.runner.spans import RunnerSpans


log = logging.getLogger(__name__)

_NOBODY_THERE = (Unavailable.code, DeadlineExceeded.code)
"""Outcomes of an example that calls models which are not up yet."""


class Gateway(NamedTuple):
    """The gateway by which a model calls others; empty for none."""

    url: str = ""
    key: str = ""


NOWHERE = Gateway()


class HostedModel:
    """One model, loaded and warm.

    Args:
        shows_errors: Whether callers see the text of the model's exceptions.
        caller: Makes its calls of other models; None if it makes none.
        clock: Returns monotonic seconds.
    """

    is_concurrent: ClassVar[bool] = False
    """Whether several batches or streams are under way (``runner/concurrent``)."""

    def __init__(
        self,
        *,
        model: Model,
        contract: Contract,
        manifest: Manifest,
        folder: Path,
        digest: str,
        shows_errors: bool = False,
        caller: Caller | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.contract = contract
        self._spans: RunnerSpans | None = None
        self._caller = caller
        asked_by = None if caller is None else caller.asked_by
        name = type(model).__name__
        self._subject = Subject(model, contract, folder, clock, name, asked_by)
        self.metrics = metrics_of(model)
        self._model = model
        self._manifest = manifest
        self._folder = folder
        self._digest = digest
        self._clock = clock
        self._rules = Rules(
            max_batch_size=manifest.batching.max_batch_size,
            is_checked=manifest.checks.output == "always",
            shows_errors=shows_errors,
        )

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        shows_errors: bool = False,
        is_signed: bool = False,
        gateway: Gateway = NOWHERE,
        calls: Calls | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> HostedModel:
        """Check the artefacts, import the class or open the runtime's artefact, call ``load``.

        ``is_signed``: whether somebody who is trusted has signed it, so that ``allow_pickle`` is
        obeyed. ``gateway``: by which the model calls others. ``calls``: stands in for them.

        Raises:
            LoadError: Any failure, described in one sentence.
        """
        kind = cls
        try:
            manifest, caller = read_manifest(folder), None
            digest = digest_folder(folder, manifest)
            if manifest.batching.concurrency:
                from modelyard.runner.concurrent.host import ConcurrentModel

                kind = ConcurrentModel
            if manifest.runtime is not None:
                model, contract = _open_artefact(folder, manifest, is_signed=is_signed)
            else:
                caller = _caller_of(manifest, gateway) if calls is None else None
                model, contract = _open_class(folder, manifest, caller or calls, kind.call)
        except ArtefactError as error:
            raise as_artefact_error(error, folder) from error
        except BaseException as error:
            raise as_load_error(error, folder) from error
        return kind(
            model=model,
            contract=contract,
            manifest=manifest,
            folder=folder,
            digest=digest,
            shows_errors=shows_errors,
            caller=caller,
            clock=clock,
        )

    @classmethod
    def call(cls, method: Callable[[], Any]) -> None:
        """Call a method of the model's; one that is async, to its end."""
        method()

    def warm_up(self) -> Ready:
        """Predict the example, if there is one, and call the model's own ``warm_up``.

        Raises:
            LoadError: The model cannot answer its own example.
        """
        example = b"null"
        started = self._clock()
        if self._model.example is not None:
            example = self._predict_example()
        try:
            self.call(self._model.warm_up)
        except BaseException as error:
            raise as_load_error(error, self._folder) from error
        return Ready(
            digest=self._digest,
            input_schema=self.contract.input_schema,
            output_schema=self.contract.output_schema,
            example=example,
            warm_up_s=self._clock() - started,
            tensors=self.contract.tensors,
            piece_schema=self.contract.pieces.schema if self.contract.pieces else b"",
        )

    def _predict_example(self) -> bytes:
        """Return the example as JSON, after the model has answered it."""
        try:
            example = self.contract.encode_instances(self._model.example)
        except Exception as error:
            what = "the example cannot be written as JSON"
            problem, kind = describe(error, self._folder), type(error).__name__
            text = f"{what}: {problem}{self._hint_at_one_instance()}"
            raise LoadError(text, told=f"{what}: {kind}") from error
        rules = Rules(
            max_batch_size=self._rules.max_batch_size,
            is_checked=self._manifest.checks.output != "never",
            shows_errors=True,  # to the operator, not to a caller
        )
        with contextlib.nullcontext() if self._caller is None else self._caller.patient():
            run, answers = self._run_once(rules, example)
        outcome = answers.outcomes[0]
        if isinstance(outcome, Failure):
            what, raised = "the model's own example", run.raised.get(0)
            if self._caller is not None and outcome.code in _NOBODY_THERE:
                log.warning("the example was not predicted: %s", outcome.detail)
                return example
            text = f"{what}: {self._explain(outcome)}"
            raise LoadError(text, told=f"{what}: {type(raised).__name__}" if raised else "")
        return example

    def _run_once(self, rules: Rules, raw: bytes) -> tuple[Run, Answers]:
        run = Run(self._subject, rules, [raw], ["json"])
        return run, run.answers([])

    def _explain(self, failure: Failure) -> str:
        """Describe why the model's example has no answer."""
        if failure.code != InvalidInput.code:
            return failure.detail
        where = (failure.where or "").replace("$.input_data", "example", 1)
        text = f"{failure.detail}, at {where}" if where else failure.detail
        return text + self._hint_at_one_instance()

    def _hint_at_one_instance(self) -> str:
        """Return what to write if the example is one instance, where there should be several."""
        example = self._model.example
        try:
            self.contract.decode(self.contract.encode_instances([example]))
        except Exception:
            return ""
        if self.contract.pieces is not None and isinstance(example, list):
            return (
                "; `stream` takes one instance, and here its annotation is a list: annotate one "
                "instance, or if an instance is a list, put the example into another one"
            )
        todo = "write example[None], axis 0 is the batch" if hasattr(example, "dtype") else ""
        todo = todo or "put it into a list, or give its arrays a batch axis"
        return f"; the example is a list of instances, and this is one instance: {todo}"

    def answer(
        self,
        inputs: Sequence[bytes | memoryview],
        forms: Sequence[Form] = (),
        deadlines: Sequence[float] = (),
        origins: Sequence[Origin] = (),
    ) -> Answers:
        """Return one outcome per input, in order: its predictions, or its failure.

        ``forms``: of each input and its outcome; empty if all are JSON. ``deadlines``: readings of
        the clock; an input whose deadline has passed is not run. Empty if none can have passed.
        ``origins``: of each input, if the model calls others.
        """
        run = Run(self._subject, self._rules, inputs, forms or ["json"] * len(inputs), origins)
        if self._spans is None or not origins:
            return run.answers(deadlines)
        with self._spans.batch(origins):
            return run.answers(deadlines)

    def trace(self, spans: RunnerSpans) -> None:
        """Record what is done for traced requests from now on."""
        self._spans = spans
        self._subject = self._subject._replace(model=spans.of(self._subject.model))

    def report_by(self, reports: Reports) -> None:
        """Let the model tell its pool how far it is, and ask whether it should stop."""
        self._model._reports = reports

    def unload(self) -> None:
        """Call the model's ``unload``."""
        try:
            self.call(self._model.unload)
        finally:
            if self._spans is not None:
                self._spans.close()


def _caller_of(manifest: Manifest, gateway: Gateway) -> Caller | None:
    """Return what makes a model's calls; None if it may make none."""
    if not manifest.calls.models:
        return None
    from modelyard.calling.caller import Caller

    return Caller(
        manifest.name,
        manifest.calls.models,
        url=gateway.url,
        key=gateway.key,
        timeout_s=manifest.limits.timeout_s,
    )


def _open_class(
    folder: Path,
    manifest: Manifest,
    calls: Calls | None,
    call: Callable[[Callable[[], Any]], None],
) -> tuple[Model, Contract]:
    spec = manifest.class_ or ""
    model_class = import_class(folder, spec)
    name = f"{source_of(folder, spec)}: {model_class.__name__}"
    try:
        contract = contract_of(model_class)
    except ContractError as error:
        raise LoadError(f"{source_of(folder, spec)}: {error}") from error
    what = "a stream" if contract.pieces is not None else ""
    what = "an async predict" if inspect.iscoroutinefunction(model_class.predict) else what
    if what and not manifest.batching.concurrency:
        raise LoadError(
            f"{name} has {what}: write concurrency = 16 in model.toml, under [batching], for as "
            "many under way in one runner"
        )
    if manifest.batching.concurrency and not what:
        raise LoadError(f"{name} has no async predict and no stream: remove concurrency")
    model = model_class()
    model.assets = folder / "assets"
    model._other_models = calls
    call(model.load)
    return model, contract


def _open_artefact(folder: Path, manifest: Manifest, *, is_signed: bool) -> tuple[Model, Contract]:
    from modelyard.runtimes.opening import open_runtime

    model = open_runtime(folder, manifest, is_signed=is_signed)
    try:
        return model, contract_between(model.takes, model.gives, name=str(manifest.runtime))
    except ContractError as error:
        raise LoadError(f"the artefact has what no request can: {error}") from error
