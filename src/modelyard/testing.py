"""Run a model in a test, through the same checks, codec and batching as when it is served.

def test_setosa():
    with ServedModel("models/fast_iris_model") as model:
        assert model.predict([[5.1, 3.5, 1.4, 0.2]]) == [0]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from modelyard.arrays import ext_hook, pack_array
from modelyard.core.called import CallFailed
from modelyard.core.columns import Columns
from modelyard.core.errors import Failure, from_failure
from modelyard.core.messages import Form
from modelyard.runner.host import HostedModel
from modelyard.runner.loading import LoadError

__all__ = ["LoadError", "ServedModel"]


class _StandIns:
    """Answers in place of the models that a model calls."""

    def __init__(self, models: Mapping[str, Callable[[Any], Any]]) -> None:
        self._models = models

    def call(
        self, model: str, instances: Any, *, version: str | None, timeout_s: float | None
    ) -> Any:
        """See ``Model.call``: answers at once, whatever the version."""
        if model not in self._models:
            text = f"ServedModel(folder, calls=…) has no {model!r}"
            raise CallFailed(text, caller="this model", model=model, code="undeclared")
        return self._models[model](instances)

    async def acall(
        self, model: str, instances: Any, *, version: str | None, timeout_s: float | None
    ) -> Any:
        """See ``Model.acall``."""
        return self.call(model, instances, version=version, timeout_s=timeout_s)


class ServedModel:
    """A model folder, loaded in this process.

    Args:
        folder: The model's folder: the one that holds ``model.toml``.
        calls: Functions in place of the models that it calls, by their names: each gets instances,
            and returns predictions.

    Raises:
        LoadError: On entry, if the model could not be served; the text says why.
    """

    def __init__(
        self, folder: str | Path, *, calls: Mapping[str, Callable[[Any], Any]] | None = None
    ) -> None:
        self._folder = Path(folder).resolve()
        self._calls = None if calls is None else _StandIns(calls)

    def __enter__(self) -> ServedModel:
        self._hosted = HostedModel.open(self._folder, shows_errors=True, calls=self._calls)
        self._ready = self._hosted.warm_up()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._hosted.unload()

    @property
    def input_schema(self) -> dict[str, Any]:
        """JSON Schema of ``input_data``."""
        return msgspec.json.decode(self._ready.input_schema, type=dict[str, Any])

    @property
    def example(self) -> Any:
        """The model's example, as JSON has it; None if it has none."""
        return msgspec.json.decode(self._ready.example)

    def predict(self, instances: Any) -> Any:
        """Answer one request, as a caller of the HTTP API would see it.

        Args:
            instances: What JSON can say; or a numpy array or ``Columns``, for a model that takes
                them: they are sent as MessagePack, and predictions that are declared as an array
                come back as one, those that are ``Columns`` as a dict of arrays.

        Raises:
            RequestError: What the API would answer with a problem document: InvalidInput if the
                instances do not fit the annotations or the model refuses them, ModelFailed if the
                model raises.
        """
        return self.predict_batch([instances])[0]

    def predict_batch(self, requests: list[Any]) -> list[Any]:
        """Answer several requests in one batch; raises the first one's error."""
        forms = [self._form_of(request) for request in requests]
        inputs = [
            msgspec.msgpack.encode(request, enc_hook=pack_array)
            if form == "msgpack"
            else self._hosted.contract.encode_instances(request)
            for request, form in zip(requests, forms, strict=True)
        ]
        return self._predictions(inputs, forms)

    def predict_raw(self, body: bytes) -> Any:
        """Return the prediction for a body that is one instance as it is: a file, or a text."""
        return self._predictions([msgspec.msgpack.encode([body])], ["raw"])[0][0]

    def metric(self, name: str, **labels: object) -> float:
        """Return what the model has counted by ``Model.metrics`` since it was loaded, what it has
        set a gauge to, or how often it has observed a histogram; with these labels.
        """
        return self._hosted.metrics.value(name, **labels)

    def _form_of(self, request: Any) -> Form:
        is_array = hasattr(request, "dtype") or isinstance(request, Columns)
        is_array = is_array and self._hosted.contract.takes_arrays
        return "msgpack" if is_array else "json"

    def _predictions(self, inputs: list[bytes], forms: list[Form]) -> list[Any]:
        outcomes = self._hosted.answer(inputs, forms).outcomes
        predictions = []
        for outcome, form in zip(outcomes, forms, strict=True):
            if isinstance(outcome, Failure):
                raise from_failure(outcome)
            predictions.append(
                msgspec.msgpack.decode(outcome, ext_hook=ext_hook)
                if form == "msgpack"
                else msgspec.json.decode(outcome)
            )
        return predictions
