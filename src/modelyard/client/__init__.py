"""The Python client of Modelyard: asks models over HTTP.

    from modelyard_client import Client

    with Client("http://127.0.0.1:8000") as client:
        client.predict("fast_iris_model", [[5.1, 3.5, 1.4, 0.2]])  # [0]

On the way of a call: ``client.py`` or ``async_client.py`` builds it (``calls.py``, ``forms.py``),
is told by ``exchange.py`` when to send it and when again, and lets ``wire.py`` translate for the
HTTP library. ``testing.py`` answers without a network. Nothing here knows the server's code.

The package has two names: ``modelyard_client`` in the distribution of that name
(``clients/python``), and ``modelyard.client`` beside the server, whose command line asks through
it. So its modules import each other relatively.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .batches import BatchCost, BatchInfo, BatchRows, FailedRow
from .errors import (
    Conflict,
    ConnectionFailed,
    DeadlineExceeded,
    Forbidden,
    InvalidInput,
    JobNotFound,
    Malformed,
    ModelCrashed,
    ModelFailed,
    ModelNotFound,
    ModelNotReady,
    ModelyardError,
    NotAcceptable,
    ObjectLost,
    Overloaded,
    RateLimited,
    Refused,
    ShuttingDown,
    StreamBroken,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnexpectedAnswer,
    VersionNotFound,
    WrongMediaType,
)
from .exchange import Retry
from .forms import Answer
from .job import AsyncJob, Job
from .jobs import JobError, JobInfo
from .models import Capacity, ModelDetails, ModelInfo, VersionDetails, VersionInfo, WorkerInfo

if TYPE_CHECKING:
    from .async_client import AsyncClient
    from .batch import AsyncBatch, Batch
    from .client import Client

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "AsyncBatch",
    "AsyncClient",
    "AsyncJob",
    "Batch",
    "BatchCost",
    "BatchInfo",
    "BatchRows",
    "Capacity",
    "Client",
    "Conflict",
    "ConnectionFailed",
    "DeadlineExceeded",
    "FailedRow",
    "Forbidden",
    "InvalidInput",
    "Job",
    "JobError",
    "JobInfo",
    "JobNotFound",
    "Malformed",
    "ModelCrashed",
    "ModelDetails",
    "ModelFailed",
    "ModelInfo",
    "ModelNotFound",
    "ModelNotReady",
    "ModelyardError",
    "NotAcceptable",
    "ObjectLost",
    "Overloaded",
    "RateLimited",
    "Refused",
    "Retry",
    "ShuttingDown",
    "StreamBroken",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "UnexpectedAnswer",
    "VersionDetails",
    "VersionInfo",
    "VersionNotFound",
    "WorkerInfo",
    "WrongMediaType",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Import a client when it is used: models in their runners need the rest alone."""
    if name == "Client":
        from .client import Client

        return Client
    if name == "AsyncClient":
        from .async_client import AsyncClient

        return AsyncClient
    if name in ("AsyncBatch", "Batch"):
        from . import batch

        return getattr(batch, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
