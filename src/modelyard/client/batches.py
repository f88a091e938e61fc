"""Bulk runs: what a gateway tells of them, and the calls that ask for it. No I/O here."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias
from urllib.parse import urlencode

import msgspec

from .calls import METADATA_TIMEOUT_S, Call, Request
from .errors import JobNotFound, UnexpectedAnswer
from .exchange import Reply
from .forms import read
from .jobs import JobError, JobState

BatchFormat: TypeAlias = Literal["csv", "jsonl", "parquet", "arrow"]

FORMATS: Mapping[str, BatchFormat] = {
    **{"csv": "csv", "jsonl": "jsonl", "ndjson": "jsonl", "parquet": "parquet", "pq": "parquet"},
    **{"arrow": "arrow", "arrows": "arrow", "feather": "arrow", "ipc": "arrow"},
}
"""By the endings of names."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}")


class BatchRows(msgspec.Struct, frozen=True):
    """How many rows are done, of those how many have no prediction, and how many there are in all,
    which is known at the end.
    """

    done: int
    failed: int
    total: int | None = None


class BatchCost(msgspec.Struct, frozen=True):
    """What a run has cost: predictions, and seconds of the model's time."""

    instances: int
    model_s: float


class BatchInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A bulk run as it was when the gateway was asked. Times are Unix time, in seconds.

    Attributes:
        id: Its name.
        state: queued, running, succeeded, failed, cancelled or expired.
        model_name: What is asked.
        rows: How many are done, and have failed.
        cost: What it has cost.
        created: When it was accepted.
        model_version: Which version: the same for all rows.
        owner: Whose it is.
        started: When it was begun for the first time.
        finished: When it came to its end.
        progress: How far it is in the input, from 0 to 1; None if that is not known.
        rows_per_s: Of late.
        remaining_s: In how many seconds it should be finished, at the rate until now.
        error: Why it failed, or was interrupted last.
    """

    id: str
    state: JobState
    model_name: str
    rows: BatchRows
    cost: BatchCost
    created: float
    model_version: str | None = None
    owner: str = ""
    started: float | None = None
    finished: float | None = None
    progress: float | None = None
    rows_per_s: float | None = None
    remaining_s: float | None = None
    error: JobError | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has come to its end."""
        return self.finished is not None


class FailedRow(msgspec.Struct, frozen=True):
    """Why a row has no prediction. ``row``: its number, from 0."""

    row: int
    code: str
    detail: str
    where: str | None = None


class BatchTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What a bulk run is made with; see ``Client.batch``."""

    output_format: BatchFormat | None = None
    version: str | None = None
    columns: Sequence[str] = ()
    keep: Sequence[str] = ()


class _Page(msgspec.Struct, frozen=True):
    batches: list[BatchInfo]
    next: str | None = None


_read_batch = msgspec.json.Decoder(BatchInfo).decode
_read_page = msgspec.json.Decoder(_Page).decode
_read_failed = msgspec.json.Decoder(FailedRow).decode
_read_output = msgspec.json.Decoder(dict[str, Any]).decode


def new_id() -> str:
    """Return a name for a run."""
    return secrets.token_hex(16)


def upload_path(batch_id: str, model: str, kind: BatchFormat, terms: BatchTerms) -> str:
    """Return the path to which an input is sent.

    Raises:
        ValueError: No run can be called that.
    """
    if not _NAME.fullmatch(batch_id):
        raise ValueError(f"no bulk run can be called {batch_id!r}")
    asked: list[tuple[str, str]] = [
        ("id", batch_id),
        ("model", model),
        ("format", kind),
        ("output_format", terms.output_format or kind),
        *(("columns", name) for name in terms.columns),
        *(("keep", name) for name in terms.keep),
    ]
    if terms.version is not None:
        asked.append(("version", terms.version))
    return f"/batches?{urlencode(asked)}"


def batch_call(batch_id: str, *, wait_s: float = 0.0) -> Call[BatchInfo]:
    """``GET /batches/ID``, which waits for a change at most so long."""
    query = f"?wait={wait_s:.3f}" if wait_s else ""
    return _call("GET", _path(batch_id) + query, read_batch, METADATA_TIMEOUT_S + wait_s)


def cancel_batch_call(batch_id: str) -> Call[BatchInfo]:
    """``POST /batches/ID/cancel``."""
    return _call("POST", f"{_path(batch_id)}/cancel", read_batch, METADATA_TIMEOUT_S)


def batches_call(*, state: JobState | None, model: str | None, limit: int) -> Call[list[BatchInfo]]:
    """``GET /batches``: one page."""
    asked = {"state": state, "model": model, "limit": limit}
    query = urlencode({name: value for name, value in asked.items() if value is not None})
    return _call(
        "GET",
        f"/batches?{query}",
        lambda reply: read(reply, _read_page).batches,
        METADATA_TIMEOUT_S,
    )


def file_path(batch_id: str, what: Literal["output", "errors"]) -> str:
    """Return the path of what a run has brought."""
    return f"{_path(batch_id)}/{what}"


def read_batch(reply: Reply) -> BatchInfo:
    """Return the run that a gateway tells of."""
    return read(reply, _read_batch)


def predictions_in(lines: Iterator[bytes], total: int) -> list[Any]:
    """Return the predictions in an output, None for each row that has none."""
    found: list[Any] = [None] * total
    for line in lines:
        try:
            output = _read_output(line)
        except msgspec.DecodeError as error:
            told = "the output is not JSON Lines: write it to a file with download()"
            raise UnexpectedAnswer(told) from error
        found[output["row"]] = output["prediction"]
    return found


def failures_in(lines: Iterator[bytes]) -> list[FailedRow]:
    """Return the rows in a file of failures."""
    return [_read_failed(line) for line in lines]


def _path(batch_id: str) -> str:
    if not _NAME.fullmatch(batch_id):
        raise JobNotFound(f"no bulk run can be called {batch_id!r}")
    return f"/batches/{batch_id}"


def _call(
    method: str, path: str, read_reply: Callable[[Reply], Any], timeout_s: float
) -> Call[Any]:
    request = Request(method, path, {}, None)
    return Call(lambda _: request, read_reply, timeout_s)
