"""Large results of jobs: a gateway leads to an object store, which is asked without its key."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2

from .wire import TimeLeft

_LED = 307


@contextlib.contextmanager
def led(
    response: httpx2.Response, time_left: TimeLeft, tls: ssl.SSLContext | None
) -> Iterator[httpx2.Response]:
    """Give the answer of the place that a gateway leads to; its own, if it leads nowhere."""
    if (url := _url_in(response)) is None:
        yield response
        return
    with httpx2.Client(verify=_trust(tls)) as http, http.stream(**_asked(url, time_left)) as found:
        yield found


@contextlib.asynccontextmanager
async def led_async(
    response: httpx2.Response, time_left: TimeLeft, tls: ssl.SSLContext | None
) -> AsyncIterator[httpx2.Response]:
    """See ``led``."""
    if (url := _url_in(response)) is None:
        yield response
        return
    async with (
        httpx2.AsyncClient(verify=_trust(tls)) as http,
        http.stream(**_asked(url, time_left)) as found,
    ):
        yield found


def _url_in(response: httpx2.Response) -> str | None:
    url: str = response.headers.get("location", "")
    is_led = response.status_code == _LED and url.startswith(("http://", "https://"))
    return url if is_led else None


def _trust(tls: ssl.SSLContext | None) -> ssl.SSLContext | bool:
    return True if tls is None else tls


def _asked(url: str, time_left: TimeLeft) -> dict[str, Any]:
    return {"method": "GET", "url": url, "extensions": {"timeout": time_left}}
