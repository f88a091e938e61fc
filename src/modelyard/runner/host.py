"""A loaded model that answers batches of raw inputs. The last stop before ``Model.predict``.

Each input is decoded and checked by itself, so a bad one never reaches the batch. The good ones run
together; if ``predict`` raises, they run again request by request, so that only the culprit fails.
"""

from __future__ import annotations

import importlib
import sys
import time
import traceback
from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from modelyard.core.codec import Contract, ContractError, Instances, contract_of
from modelyard.core.errors import DeadlineExceeded, Failure, ModelFailed, RequestError
from modelyard.core.manifest import Manifest
from modelyard.core.messages import Answers, Form, Ready
from modelyard.folder import digest_folder, read_manifest
from modelyard.model import Model

_TITLES: dict[Form, str] = {"json": "JSON", "msgpack": "MessagePack"}
LARGEST_ANSWER_BYTES = 8 << 20  # RabbitMQ 4 takes messages of 16 MiB
LONGEST_REASON = 500  # characters of a model's own error text that reach a caller


class LoadError(Exception):
    """The model cannot be served; the text says why and what to do."""


class HostedModel:
    """One model, loaded and warm."""

    def __init__(
        self, *, model: Model, contract: Contract, manifest: Manifest, folder: Path, digest: str
    ) -> None:
        self._model = model
        self._contract = contract
        self._max_batch_size = manifest.batching.max_batch_size
        self._folder = folder
        self._digest = digest
        self._model_s = 0.0
        self._sizes: list[int] = []
        self._forms: Sequence[Form] = ()

    @classmethod
    def open(cls, folder: Path) -> HostedModel:
        """Check the artefacts, import the class, call ``load``.

        Raises:
            LoadError: Whatever went wrong, in one sentence.
        """
        try:
            manifest = read_manifest(folder)
            digest = digest_folder(folder, manifest)
            model_class = _import_class(folder, manifest.class_)
            contract = contract_of(model_class)
            model = model_class()
            model.assets = folder / "assets"
            model.load()
        except ContractError as error:
            raise LoadError(f"{_source(folder, manifest.class_)}: {error}") from error
        except BaseException as error:
            raise LoadError(_describe(error, folder)) from error
        return cls(model=model, contract=contract, manifest=manifest, folder=folder, digest=digest)

    def warm_up(self) -> Ready:
        """Predict the example, if there is one, and call the model's own ``warm_up``.

        Raises:
            LoadError: The model cannot answer its own example.
        """
        example = b"null"
        started = time.monotonic()
        if self._model.example is not None:
            try:
                example = self._contract.encode_example(self._model.example)
            except Exception as error:
                problem = _describe(error, self._folder)
                raise LoadError(
                    f"the model's own example has no form in JSON: {problem}"
                ) from error
            outcome = self.answer([memoryview(example)]).outcomes[0]
            if isinstance(outcome, Failure):
                raise LoadError(f"the model's own example: {outcome.detail} {outcome.where or ''}")
        try:
            self._model.warm_up()
        except BaseException as error:
            raise LoadError(_describe(error, self._folder)) from error
        return Ready(
            digest=self._digest,
            input_schema=self._contract.input_schema,
            output_schema=self._contract.output_schema,
            example=example,
            warm_up_s=time.monotonic() - started,
        )

    def answer(
        self,
        inputs: Sequence[bytes | memoryview],
        forms: Sequence[Form] = (),
        deadlines: Sequence[float] = (),
    ) -> Answers:
        """Give one outcome per input, in order: its predictions, or its failure.

        ``forms``: of each input and its outcome; none where all are JSON. ``deadlines``: readings
        of ``time.monotonic()``; what is past its own is not run. None where all are ahead.
        """
        self._model_s, self._sizes = 0.0, []
        self._forms = forms or ["json"] * len(inputs)
        outcomes: list[bytes | Failure] = [b""] * len(inputs)
        good: list[tuple[int, Instances]] = []
        now = time.monotonic()
        for position, raw in enumerate(inputs):
            try:
                if deadlines and deadlines[position] <= now:
                    raise DeadlineExceeded("the deadline passed while another batch ran")
                good.append((position, self._contract.decode(raw, self._forms[position])))
            except RequestError as error:
                outcomes[position] = error.to_failure()
        try:
            self._run(good, outcomes)
        except ModelFailed as error:
            if len(good) == 1:
                outcomes[good[0][0]] = error.to_failure()
            else:
                self._run_apart([position for position, _ in good], inputs, outcomes)
        return Answers(outcomes=outcomes, model_s=self._model_s, sizes=self._sizes)

    def unload(self) -> None:
        """Call the model's ``unload``."""
        self._model.unload()

    def _run(self, good: list[tuple[int, Instances]], outcomes: list[bytes | Failure]) -> None:
        """Answer all of ``good`` together, in calls of at most ``max_batch_size`` instances."""
        if not good:
            return
        counts = [len(part) for _, part in good]
        instances = self._contract.join([part for _, part in good])
        total, step = len(instances), self._max_batch_size
        if total <= step:
            pieces = [self._predict(instances)]
        else:
            pieces = [
                self._predict(instances[start : start + step]) for start in range(0, total, step)
            ]
        if len(good) == len(pieces) == 1:
            outcomes[good[0][0]] = self._encode(pieces[0], self._forms[good[0][0]])
            return
        try:
            predictions = self._contract.join_predictions(pieces)
            ends = list(accumulate(counts, initial=0))
            parts = [predictions[start:end] for start, end in pairwise(ends)]
        except Exception as error:
            kind, problem = type(pieces[0]).__name__, _describe(error, self._folder)
            raise ModelFailed(f"predictions of type {kind} cannot be cut: {problem}") from error
        for (position, _), part in zip(good, parts, strict=True):
            outcomes[position] = self._encode(part, self._forms[position])

    def _run_apart(
        self,
        positions: list[int],
        inputs: Sequence[bytes | memoryview],
        outcomes: list[bytes | Failure],
    ) -> None:
        """Answer each request by itself, decoded anew: the model may have changed what it got."""
        for position in positions:
            try:
                instances = self._contract.decode(inputs[position], self._forms[position])
                self._run([(position, instances)], outcomes)
            except ModelFailed as error:
                outcomes[position] = error.to_failure()

    def _predict(self, instances: Instances) -> Any:
        count = len(instances)  # before the model has had them in its hands
        started = time.monotonic()
        try:
            predictions = self._model.predict(instances)
        except BaseException as error:  # also what extensions raise that is no Exception
            traceback.print_exc()  # to standard error, where the owner of the model looks
            raise ModelFailed(f"the model raised {_describe(error, self._folder)}") from error
        finally:
            self._model_s += time.monotonic() - started
            self._sizes.append(count)
        try:
            problem = self._contract.check_predictions(predictions, count=count)
        except Exception as error:  # what it returned only looks like an array
            kind = type(predictions).__name__
            problem = f"returned {kind}, which raised {_describe(error, self._folder)}"
        if problem:
            name = f"{type(self._model).__name__}.predict"
            raise ModelFailed(f"{name} {problem}; return one per instance, in the same order")
        return predictions

    def _encode(self, predictions: Any, form: Form) -> bytes:
        try:
            output = self._contract.encode(predictions, form)
        except Exception as error:
            problem = _describe(error, self._folder)
            raise ModelFailed(
                f"the predictions have no form in {_TITLES[form]}: {problem}"
            ) from error
        if len(output) > LARGEST_ANSWER_BYTES:
            raise ModelFailed(
                f"the predictions have {len(output)} bytes and may have {LARGEST_ANSWER_BYTES}; "
                "ask for fewer instances at once"
            )
        return output


def _import_class(folder: Path, spec: str) -> type[Model]:
    """Import ``module:Class`` from the folder's ``src/``."""
    module_name, _, class_name = spec.partition(":")
    source = folder / "src"
    loaded = sys.modules.get(module_name)
    if loaded is not None and Path(loaded.__file__ or "").parent != source:
        del sys.modules[module_name]  # another model's: only tests load several into one process
    if not (source / f"{module_name}.py").exists() and not (source / module_name).is_dir():
        raise LoadError(f"src/{module_name}.py is missing; model.toml says class = {spec!r}")
    sys.path.insert(0, str(source))
    importlib.invalidate_caches()
    module = importlib.import_module(module_name)
    found = getattr(module, class_name, None)
    if found is None:
        raise LoadError(
            f"src/{module_name}.py has no {class_name}; model.toml says class = {spec!r}"
        )
    if not (isinstance(found, type) and issubclass(found, Model)):
        raise LoadError(f"src/{module_name}.py: write `class {class_name}(Model):`")
    if "predict" in found.__abstractmethods__:
        raise LoadError(
            f"src/{module_name}.py: {class_name} has no predict; "
            "write `def predict(self, instances: list[list[float]]) -> list[int]:`"
        )
    return found


def _source(folder: Path, spec: str) -> str:
    return (folder / "src" / spec.partition(":")[0]).relative_to(folder).as_posix() + ".py"


def _describe(error: BaseException, folder: Path) -> str:
    """Say what was raised and at which line of the model's own code."""
    if isinstance(error, LoadError):
        return str(error)
    try:
        text = f"{type(error).__name__}: {error}"[:LONGEST_REASON]
    except Exception:
        text = type(error).__name__  # its own __str__ raises
    text = text.encode(errors="backslashreplace").decode()
    if isinstance(error, SyntaxError) and error.filename:
        return f"{text} ({error.filename}:{error.lineno})"
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(folder)
    ]
    where = f" ({Path(own[-1].filename).relative_to(folder)}:{own[-1].lineno})" if own else ""
    hint = ""
    if isinstance(error, ModuleNotFoundError):
        hint = "; is it in the model's requirements.txt, and installed?"
    return f"{text}{where}{hint}"
