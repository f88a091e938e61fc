"""The Python client of Modelyard: asks models over HTTP.

    from modelyard_client import Client

    with Client("http://127.0.0.1:8000") as client:
        client.predict("fast_iris_model", [[5.1, 3.5, 1.4, 0.2]])  # [0]

On the way of a call: ``client.py`` or ``async_client.py`` builds it (``calls.py``, ``forms.py``),
is told by ``exchange.py`` when to send it and when again, and lets ``wire.py`` translate for the
HTTP library. ``testing.py`` answers without a network. Nothing here knows the server's code.
"""

from __future__ import annotations

from modelyard_client.async_client import AsyncClient
from modelyard_client.client import Client
from modelyard_client.errors import (
    ConnectionFailed,
    DeadlineExceeded,
    Forbidden,
    InvalidInput,
    Malformed,
    ModelCrashed,
    ModelFailed,
    ModelNotFound,
    ModelNotReady,
    ModelyardError,
    Overloaded,
    RateLimited,
    Refused,
    ShuttingDown,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnexpectedAnswer,
    VersionNotFound,
    WrongMediaType,
)
from modelyard_client.exchange import Retry
from modelyard_client.forms import Answer
from modelyard_client.models import Capacity, ModelInfo, VersionInfo

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "AsyncClient",
    "Capacity",
    "Client",
    "ConnectionFailed",
    "DeadlineExceeded",
    "Forbidden",
    "InvalidInput",
    "Malformed",
    "ModelCrashed",
    "ModelFailed",
    "ModelInfo",
    "ModelNotFound",
    "ModelNotReady",
    "ModelyardError",
    "Overloaded",
    "RateLimited",
    "Refused",
    "Retry",
    "ShuttingDown",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "UnexpectedAnswer",
    "VersionInfo",
    "VersionNotFound",
    "WrongMediaType",
    "__version__",
]
