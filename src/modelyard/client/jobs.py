"""Jobs: what a gateway tells of them, and the calls that ask for it. No I/O here."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TypeAlias
from urllib.parse import urlencode

import msgspec

from .calls import METADATA_TIMEOUT_S, Call, Request
from .errors import JobNotFound
from .exchange import Reply
from .forms import Answer, Body, Priority, read, read_answer

JobState: TypeAlias = Literal["queued", "running", "succeeded", "failed", "cancelled", "expired"]

WAIT_S = 30.0
"""How long one request waits at the gateway: less than proxies between here and there do."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}")


class JobError(msgspec.Struct, frozen=True):
    """Why an attempt failed."""

    code: str
    detail: str
    where: str | None = None


class JobInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A job as it was when the gateway was asked. Times are Unix time, in seconds.

    Attributes:
        id: Its name.
        state: queued, running, succeeded, failed, cancelled or expired.
        revision: Grows with each change.
        model_name: What is asked.
        model_version: The version that answered, or the one that was asked for.
        created: When it was accepted.
        owner: Whose it is.
        priority: The highest goes first.
        ready_at: Not to be run before.
        deadline: Not to be begun after.
        started: When it was begun.
        finished: When it came to its end.
        attempts: How often it was begun.
        failures: How often that failed.
        max_attempts: How often it may.
        progress: How far it is, from 0 to 1, if the model says so.
        progress_message: What the model is at, if it says so.
        error: Why the last attempt failed.
        position: How many jobs of its model go before it.
        estimate_s: In how many seconds it should be begun.
        callback: Where its end is told.
    """

    id: str
    state: JobState
    revision: int
    model_name: str
    created: float
    model_version: str | None = None
    owner: str = ""
    priority: int = 0
    ready_at: float = 0.0
    deadline: float = 0.0
    started: float | None = None
    finished: float | None = None
    attempts: int = 0
    failures: int = 0
    max_attempts: int = 0
    progress: float | None = None
    progress_message: str | None = None
    error: JobError | None = None
    position: int | None = None
    estimate_s: float | None = None
    callback: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has come to its end."""
        return self.finished is not None


class JobPage(msgspec.Struct, frozen=True):
    """The body of ``GET /jobs``."""

    jobs: list[JobInfo]
    next: str | None = None


class _Accepted(msgspec.Struct):
    id: str


_read_job = msgspec.json.Decoder(JobInfo).decode
_read_page = msgspec.json.Decoder(JobPage).decode
_read_accepted = msgspec.json.Decoder(_Accepted).decode


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What a job is submitted with; see ``Client.submit``."""

    id: str | None = None
    priority: int | None = None
    delay_s: float | None = None
    expires_s: float | None = None
    max_attempts: int | None = None
    callback: str | None = None

    def headers(self) -> dict[str, str]:
        """Return the headers that say it."""
        said: Mapping[str, Any] = {
            "job-priority": self.priority,
            "job-delay": _seconds(self.delay_s),
            "job-expires": _seconds(self.expires_s),
            "job-max-attempts": self.max_attempts,
            "job-callback": self.callback,
        }
        return {name: str(value) for name, value in said.items() if value is not None}


def submit_call(
    model: str,
    instances: Any,
    *,
    version: str | None,
    timeout_s: float | None,
    priority: Priority | None = None,
    terms: Terms,
) -> Call[str]:
    """``PUT /jobs/ID``, which can be sent again without harm; gives the id.

    Raises:
        ValueError: No job can be called that.
    """
    job_id = secrets.token_hex(16) if terms.id is None else terms.id
    if not _NAME.fullmatch(job_id):
        raise ValueError(f"no job can be called {job_id!r}")
    content = Body(instances, model=model, version=version, priority=priority)

    def write(_: float | None) -> Request:
        media_type, body = content.write(timeout_s)
        headers = {"content-type": media_type, **terms.headers()}
        return Request("PUT", f"/jobs/{job_id}", headers, body)

    return Call(write, lambda reply: read(reply, _read_accepted).id, None)


def job_call(job_id: str, *, wait_s: float = 0.0) -> Call[JobInfo]:
    """``GET /jobs/ID``, which waits for the job's end at most so long."""
    query = f"?wait={wait_s:.3f}" if wait_s else ""
    return _call("GET", _path(job_id) + query, _job, METADATA_TIMEOUT_S + wait_s)


def result_call(job_id: str) -> Call[Answer]:
    """``GET /jobs/ID/result``, which may be large."""
    return _call("GET", f"{_path(job_id)}/result", read_answer, None)


def jobs_call(
    *, state: JobState | None, model: str | None, limit: int, after: str | None
) -> Call[JobPage]:
    """``GET /jobs``: one page."""
    asked = {"state": state, "model": model, "limit": limit, "after": after}
    query = urlencode({name: value for name, value in asked.items() if value is not None})
    return _call("GET", f"/jobs?{query}", lambda reply: read(reply, _read_page), METADATA_TIMEOUT_S)


def change_call(job_id: str, action: Literal["cancel", "retry"]) -> Call[JobInfo]:
    """``POST /jobs/ID/cancel`` or ``…/retry``."""
    return _call("POST", f"{_path(job_id)}/{action}", _job, METADATA_TIMEOUT_S)


def events_path(job_id: str) -> str:
    """Return the path of a job's events."""
    return f"{_path(job_id)}/events"


class EventReader:
    """Reads server-sent events that tell of a job, line by line.

    Attributes:
        last_id: Of the last event: where to go on.
    """

    def __init__(self) -> None:
        self.last_id = ""
        self._data = ""

    def feed(self, line: str) -> Iterator[JobInfo]:
        """Yield the job, where an event ends with this line."""
        name, _, value = line.partition(": ")
        if name == "id":
            self.last_id = value
        elif name == "data":
            self._data = value
        elif not line and self._data:
            data, self._data = self._data, ""
            yield _read_job(data)


def _path(job_id: str) -> str:
    if not _NAME.fullmatch(job_id):
        raise JobNotFound(f"no job can be called {job_id!r}")
    return f"/jobs/{job_id}"


def _job(reply: Reply) -> JobInfo:
    return read(reply, _read_job)


def _call(
    method: str, path: str, read_reply: Callable[[Reply], Any], timeout_s: float | None
) -> Call[Any]:
    request = Request(method, path, {}, None)
    return Call(lambda _: request, read_reply, timeout_s)


def _seconds(value: float | None) -> str | None:
    return None if value is None else f"{value:.6f}".rstrip("0").rstrip(".")
