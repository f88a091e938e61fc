"""Run a model in a test, through the same checks, codec and batching as when it is served.

def test_setosa():
    with ServedModel("models/fast_iris_model") as model:
        assert model.predict([[5.1, 3.5, 1.4, 0.2]]) == [0]
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from modelyard.core.errors import Failure, from_failure
from modelyard.runner.host import HostedModel, LoadError

__all__ = ["LoadError", "ServedModel"]


class ServedModel:
    """A model folder, loaded in this process.

    Args:
        folder: The model's folder: the one that holds ``model.toml``.

    Raises:
        LoadError: On entry, if the model could not be served; the text says why.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder).resolve()

    def __enter__(self) -> ServedModel:
        self._hosted = HostedModel.open(self._folder)
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

    def predict(self, instances: Any) -> Any:
        """Answer one request, as a caller of the HTTP API would see it.

        Raises:
            RequestError: What the API would answer with a problem document: InvalidInput if the
                instances do not fit the annotations, ModelFailed if the model raises.
        """
        return self.predict_batch([instances])[0]

    def predict_batch(self, requests: list[Any]) -> list[Any]:
        """Answer several requests in one batch; raises the first one's error."""
        answers = self._hosted.answer([msgspec.json.encode(request) for request in requests])
        for outcome in answers.outcomes:
            if isinstance(outcome, Failure):
                raise from_failure(outcome)
        return [
            msgspec.json.decode(outcome)
            for outcome in answers.outcomes
            if not isinstance(outcome, Failure)
        ]
