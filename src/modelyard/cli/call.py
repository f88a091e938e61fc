"""The command line's way to a gateway: HTTP by the standard library, problems as sentences."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from modelyard.settings import API_KEY_VARIABLE
from modelyard.surroundings import read_api_key

if TYPE_CHECKING:
    from urllib.error import HTTPError

UNAUTHORIZED = 401
TIMEOUT_S = 310  # longer than any request may take: the gateway decides, not this


class CallError(Exception):
    """The gateway is not there, or answered with a problem; the text is for the terminal."""


def call(url: str, path: str, *, field: str, body: dict[str, Any] | bytes | None = None) -> Any:
    """Ask the gateway at ``url``; returns what ``field`` of its answer holds.

    ``body``: sent as JSON, or a file as it is.

    Raises:
        CallError: There is no answer, or it is a problem document.
    """
    import urllib.request  # only now: a command that asks nobody should not wait for it
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError

    if not url.startswith(("http://", "https://")):
        raise CallError(f"{url}: expected http:// or https://")
    kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    headers = {"content-type": kind}
    if key := read_api_key():
        headers["x-api-key"] = key
    try:
        request = urllib.request.Request(  # noqa: S310  (the scheme is checked above)
            url.rstrip("/") + path, data=data, headers=headers
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            given = json.load(answer)
    except HTTPError as error:
        raise CallError(_describe(error)) from error
    except (URLError, OSError, ValueError, HTTPException) as error:
        reason = " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__
        raise CallError(f"no gateway at {url}: {reason}; `modelyard serve` starts one") from error
    if not (isinstance(given, dict) and field in given):
        raise CallError(f"the server at {url} is not a Modelyard gateway")
    return given[field]


def _describe(error: HTTPError) -> str:
    from http.client import HTTPException

    try:
        problem = json.load(error)
        where = f" at {problem['where']}" if "where" in problem else ""
        if error.code == UNAUTHORIZED:
            where = f" (commands take the key from {API_KEY_VARIABLE})"
        return f"{error.code} {problem['code']}: {problem['detail']}{where}"
    except (ValueError, KeyError, TypeError, OSError, HTTPException):
        return f"{error.code} {error.reason}"
