"""The cookie of a browser that uses the console, and the token of its forms.

The cookie lasts as long as the browser runs, is sent to the console alone and by none but its own
pages, and no script can read it. It holds the key that somebody signed in with, so that any gateway
knows it, and a key that is revoked is of no use at once; or else a number, so that forms have a
token where nobody needs a key.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from http.cookies import CookieError, SimpleCookie

from fastapi import Request, Response

PATH = "/console"
COOKIE = "modelyard_console"
TOKEN_FIELD = "token"  # noqa: S105 - the name of a form's field
LONGEST_KEY = 2800  # characters: a browser keeps 4 kB
_KEY, _NUMBER = "k.", "n."


def is_console(path: str) -> bool:
    """Return whether a path is the console's."""
    return path == PATH or path.startswith(f"{PATH}/")


def new_session(key: str = "") -> str:
    """Return the value of a cookie, with a key or without."""
    if not key:
        return _NUMBER + secrets.token_urlsafe(24)
    return _KEY + urlsafe_b64encode(key.encode()).decode().rstrip("=")  # which would be quoted


def session_of(request: Request) -> str:
    """Return the value of a browser's cookie; empty if it has none."""
    cookies: SimpleCookie = SimpleCookie()
    try:
        cookies.load(request.headers.get("cookie", ""))
    except CookieError:
        return ""
    found = cookies.get(COOKIE)
    return "" if found is None else found.value


def credential_in(session: str) -> bytes:
    """Return what a cookie says of who asks, as the header ``Authorization`` would; else empty."""
    if not session.startswith(_KEY):
        return b""
    try:
        key = urlsafe_b64decode(session.removeprefix(_KEY) + "==")
    except ValueError:
        return b""
    return b"Bearer " + key


def token_of(session: str) -> str:
    """Return the token that the forms of a session have. Who has no cookie cannot make it."""
    return hmac.new(session.encode(), b"modelyard console form", hashlib.sha256).hexdigest()


def is_own_form(request: Request, token: str) -> bool:
    """Return whether a form was sent from a page of ours, in the same session."""
    session = session_of(request)
    if not session or not hmac.compare_digest(token_of(session), token):
        return False
    if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return False
    origin = request.headers.get("origin", "")
    return not origin or origin.partition("://")[2] == request.headers.get("host", "")


def set_session(request: Request, response: Response, session: str) -> None:
    """Let a browser keep a session; an empty one ends it."""
    # Behind a proxy that speaks TLS. Who says so without one hides the cookie from itself alone.
    is_secure = "https" in (request.url.scheme, request.headers.get("x-forwarded-proto"))
    response.set_cookie(
        COOKIE,
        session,
        max_age=None if session else 0,
        path=PATH,
        httponly=True,
        samesite="strict",
        secure=is_secure,
    )
