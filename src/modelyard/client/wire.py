"""The one file that knows the HTTP library: requests, answers and errors, to and from httpx2."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from time import monotonic
from typing import Any, TypedDict

import httpx2

from .calls import Request
from .exchange import Lost, Reply, TimedOut
from .jobs import events_path

CONNECT_TIMEOUT_S = 5.0
EVENTS_SILENT_S = 60.0  # a gateway sends something four times as often
KEEP_ALIVE_S = 30.0
"""Less than gateways (75 s) and common proxies (60 s) keep a connection that is not used."""

_LOST = (
    httpx2.ConnectTimeout,
    httpx2.NetworkError,
    httpx2.RemoteProtocolError,
    httpx2.ProxyError,
    httpx2.DecodingError,
)


class Options(TypedDict):
    """What both clients of httpx2 are made with."""

    base_url: str
    headers: Mapping[str, str]
    limits: httpx2.Limits
    verify: ssl.SSLContext | bool


class Asked(TypedDict):
    """What their ``stream`` takes."""

    method: str
    url: str
    headers: Mapping[str, str]
    content: bytes | None
    extensions: dict[str, Any]


class TimeLeft(dict[str, float]):
    """Timeouts for one request that all end at one moment.

    The library looks one up as each part of a request begins: waiting for a connection of the
    pool, connecting, writing, reading. Fixed numbers would allow each part the whole time.
    """

    def __init__(self, give_up: float) -> None:
        self._give_up = give_up
        left_s = self.left_s
        super().__init__(pool=left_s, connect=left_s, write=left_s, read=left_s)

    @property
    def left_s(self) -> float:
        """Seconds until that moment."""
        return max(0.0, self._give_up - monotonic())

    def get(self, key: str, default: Any = None) -> Any:
        """Return the timeout of a phase that begins now."""
        left_s = self.left_s
        return min(left_s, CONNECT_TIMEOUT_S) if key == "connect" else left_s

    def check(self) -> None:
        """Raise if that moment has passed: an answer that trickles in times out no read."""
        if self._give_up < monotonic():
            raise httpx2.ReadTimeout("the answer was not complete in time")


def options(
    url: str,
    *,
    api_key: str | None,
    headers: Mapping[str, str] | None,
    connections: int,
    tls: ssl.SSLContext | None,
) -> Options:
    """Return the options with which both clients are created.

    Raises:
        ValueError: ``url`` is not one of HTTP.
    """
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise ValueError(f"{url}: {error}; expected http://HOST or https://HOST") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"{url}: expected http://HOST or https://HOST")
    if tls is None and parsed.scheme == "http":
        # It takes 50 ms to load certificates that nobody looks at. This context trusts none.
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return {
        "base_url": url,
        "headers": {
            "user-agent": "modelyard-client",
            **({} if api_key is None else {"x-api-key": api_key}),
            **(headers or {}),
        },
        "limits": httpx2.Limits(
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=KEEP_ALIVE_S,
        ),
        "verify": True if tls is None else tls,
    }


def asked(request: Request, time_left: TimeLeft) -> Asked:
    """Return the request as keyword arguments of httpx2."""
    return {
        "method": request.method,
        "url": request.path,
        "headers": request.headers,
        "content": request.body,
        "extensions": {"timeout": time_left},
    }


def listening(job_id: str, last_id: str) -> Asked:
    """Return the request for a job's events, as keyword arguments of httpx2."""
    silent_s = EVENTS_SILENT_S
    timeout = {"pool": silent_s, "connect": CONNECT_TIMEOUT_S, "write": silent_s, "read": silent_s}
    return {
        "method": "GET",
        "url": events_path(job_id),
        "headers": {"last-event-id": last_id} if last_id else {},
        "content": None,
        "extensions": {"timeout": timeout},
    }


def reply_of(response: httpx2.Response, body: bytearray) -> Reply:
    """Return the reply that httpx2 has received."""
    headers = response.headers
    return Reply(
        status=response.status_code,
        media_type=headers.get("content-type", "").partition(";")[0].strip().lower(),
        body=bytes(body),
        retry_after_s=_retry_after_s(headers),
        cache=headers.get("x-cache"),
        request_id=headers.get("x-request-id"),
    )


def failure_of(error: httpx2.RequestError) -> Lost | TimedOut:
    """Say whether another try may get an answer, or the time is over.

    Raises:
        ValueError: Neither: the request cannot be sent at all, as a header with a newline.
    """
    if isinstance(error, _LOST):
        return Lost(error)
    if isinstance(error, httpx2.TimeoutException):
        return TimedOut(error)
    raise ValueError(f"this cannot be sent: {error}") from error


def _retry_after_s(headers: httpx2.Headers) -> float | None:
    """Read seconds, or a date, which is compared with the answer's own: clocks differ."""
    given = headers.get("retry-after")
    if given is None:
        return None
    try:
        if given.isdecimal():
            return float(given)
        sent = parsedate_to_datetime(headers["date"])
        return max(0.0, (parsedate_to_datetime(given) - sent).total_seconds())
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
