"""Answers instead of a gateway, for tests of code that uses the client: no socket, no server.

    from modelyard_client import Client, Overloaded
    from modelyard_client.testing import FakeModels

    def test_flowers_are_named():
        models = FakeModels({"iris": lambda instances: [0 for _ in instances]})
        client = Client(transport=models)
        assert client.predict("iris", [[5.1, 3.5, 1.4, 0.2]]) == [0]
        assert models.questions[0].instances == [[5.1, 3.5, 1.4, 0.2]]

Requests and answers are really written and read, in the form that the client chooses. A function
that raises one of the client's errors makes the gateway answer with it, and the client retry where
it would: ``Overloaded("full")`` is seen as often as ``Retry.attempts`` says. Any other exception is
a 502 ``model_failed``, as it is at a gateway.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, TypeAlias

import httpx2
import msgspec

from .arrays import as_array, is_packable, pack, unpack
from .errors import (
    STATUS,
    ModelFailed,
    ModelNotFound,
    ModelyardError,
    Problem,
    VersionNotFound,
)
from .forms import MEDIA_TYPES, Envelope, to_json, to_msgpack

__all__ = ["FakeModel", "FakeModels", "Question"]

FakeModel: TypeAlias = Callable[[Any], Any]
"""Takes the instances of one request and gives one prediction for each."""

VERSION = "1"


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What a model was asked."""

    model: str
    instances: Any
    version: str | None
    timeout_s: float | None
    priority: str | None
    fresh: bool
    headers: dict[str, str]


class FakeModels(httpx2.BaseTransport, httpx2.AsyncBaseTransport):
    """A transport for ``Client`` and ``AsyncClient`` behind which functions are the models.

    Args:
        models: Functions by the names of the models that they stand for.

    Attributes:
        questions: What was asked so far, each try by itself.
        is_ready: What ``ready`` tells.
    """

    def __init__(self, models: Mapping[str, FakeModel]) -> None:
        self._models = dict(models)
        self.questions: list[Question] = []
        self.is_ready = True

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one request (httpx2)."""
        request.read()
        try:
            return self._route(request)
        except ModelyardError as error:
            return _problem(error, request_id=self._request_id)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one request (httpx2)."""
        return self.handle_request(request)

    @property
    def _request_id(self) -> str:
        return f"fake-{len(self.questions)}"

    def _route(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        if path.endswith("/predict"):
            return self._predict(request)
        if path.endswith("/models"):
            return _json({"models": [_describe(name) for name in self._models]})
        if path.endswith("/readyz"):
            return _json({"status": "ready"}, status=200 if self.is_ready else 503)
        name = path.rpartition("/models/")[2]
        self._known(name, None)
        return _json(_describe(name))

    def _predict(self, request: httpx2.Request) -> httpx2.Response:
        is_packed = request.headers["content-type"] == MEDIA_TYPES["msgpack"]
        asked = (_read_msgpack if is_packed else _read_json)(request.content)
        question = Question(
            model=asked.model_name,
            instances=asked.input_data,
            version=asked.model_version,
            timeout_s=asked.timeout_s,
            priority=asked.priority,
            fresh="no-cache" in request.headers.get("cache-control", ""),
            headers=dict(request.headers),
        )
        self.questions.append(question)
        predictions = _ask(self._known(question.model, question.version), question.instances)
        array = as_array(predictions)
        if is_packed and array is not None and is_packable(array):
            predictions = pack(array)
        answer = {
            "model_name": question.model,
            "model_version": question.version or VERSION,
            "prediction": predictions,
        }
        headers = {
            "content-type": MEDIA_TYPES["msgpack" if is_packed else "json"],
            "x-request-id": self._request_id,
            "x-cache": "bypass" if question.fresh else "miss",
        }
        body = (to_msgpack if is_packed else to_json)(answer)
        return httpx2.Response(200, headers=headers, content=body)

    def _known(self, name: str, version: str | None) -> FakeModel:
        if name not in self._models:
            raise ModelNotFound("no model has this name; GET /models lists them")
        if version not in (None, VERSION):
            raise VersionNotFound(f"{name} has no such version; it has {VERSION}")
        return self._models[name]


def _ask(model: FakeModel, instances: Any) -> Any:
    try:
        return model(instances)
    except ModelyardError:
        raise
    except Exception as error:
        raise ModelFailed(f"the model raised {type(error).__name__}: {error}") from error


_read_json = msgspec.json.Decoder(Envelope).decode
_read_msgpack = msgspec.msgpack.Decoder(Envelope, ext_hook=unpack).decode


def _describe(name: str) -> dict[str, Any]:
    return {"name": name, "versions": [{"version": VERSION, "state": "ready", "is_default": True}]}


def _json(body: Any, *, status: int = 200) -> httpx2.Response:
    content = to_json(body)
    return httpx2.Response(status, headers={"content-type": "application/json"}, content=content)


def _problem(error: ModelyardError, *, request_id: str) -> httpx2.Response:
    status = error.status or STATUS.get(type(error), HTTPStatus.INTERNAL_SERVER_ERROR)
    problem = Problem(
        code=error.code,
        detail=error.detail,
        status=status,
        request_id=request_id,
        where=error.where,
    )
    headers = {"content-type": "application/problem+json", "x-request-id": request_id}
    if error.retry_after_s is not None:
        headers["retry-after"] = f"{error.retry_after_s:.0f}"
    return httpx2.Response(status, headers=headers, content=to_json(problem))
