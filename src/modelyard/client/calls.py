"""Each call that a client can make: what is sent, and how the answer is read. No I/O here."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from .errors import ModelNotFound
from .exchange import Reply
from .forms import Answer, Body, Priority, read, read_answer
from .models import ModelDetails, ModelInfo, ModelList

T = TypeVar("T")

METADATA_TIMEOUT_S = 10.0
"""For questions about models, which no model is asked."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_read_models = msgspec.json.Decoder(ModelList).decode
_read_model = msgspec.json.Decoder(ModelDetails).decode


class Request(msgspec.Struct, frozen=True):
    """One HTTP request; the path is below the client's URL."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes | None


class Call(msgspec.Struct, Generic[T], frozen=True):
    """A request that may be sent several times, and the reader of its answer.

    ``write`` gets the seconds that are left, to be told to the gateway; ``timeout_s`` is how many
    there are in all, None for what the gateway allows.
    """

    write: Callable[[float | None], Request]
    read: Callable[[Reply], T]
    timeout_s: float | None


class Run(Protocol):
    """Asks the gateway, and waits for its answer."""

    def __call__(self, call: Call[T], /) -> T: ...


class AsyncRun(Protocol):
    """The same with asyncio."""

    def __call__(self, call: Call[T], /) -> Coroutine[Any, Any, T]: ...


def predict_call(
    model: str,
    instances: Any,
    *,
    version: str | None,
    timeout_s: float | None,
    priority: Priority | None,
    fresh: bool,
) -> Call[Answer]:
    """``POST /predict``.

    Raises:
        ValueError: ``timeout_s`` is not more than 0, or has no end.
    """
    if timeout_s is not None and not 0 < timeout_s < math.inf:
        raise ValueError(f"timeout_s must be more than 0 seconds, not {timeout_s}")
    content = Body(instances, model=model, version=version, priority=priority)

    def write(left_s: float | None) -> Request:
        media_type, body = content.write(left_s)
        headers = {"content-type": media_type}
        if fresh:
            headers["cache-control"] = "no-cache"
        return Request("POST", "/predict", headers, body)

    return Call(write, read_answer, timeout_s)


def models_call() -> Call[list[ModelInfo]]:
    """``GET /models``."""
    return _get("/models", lambda reply: read(reply, _read_models).models)


def model_call(name: str) -> Call[ModelDetails]:
    """``GET /models/NAME``.

    Raises:
        ModelNotFound: No model can be called that; in a path it could mean something else.
    """
    if not _NAME.fullmatch(name):
        raise ModelNotFound(f"no model can be called {name!r}")
    return _get(f"/models/{name}", lambda reply: read(reply, _read_model))


def ready_call() -> Call[bool]:
    """``GET /readyz``."""
    return _get("/readyz", lambda reply: reply.is_success)


def _get(path: str, read_reply: Callable[[Reply], T]) -> Call[T]:
    request = Request("GET", path, {}, None)
    return Call(lambda _: request, read_reply, METADATA_TIMEOUT_S)
