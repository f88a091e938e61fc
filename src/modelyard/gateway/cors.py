"""CORS: one policy for predictions and for the pages.

Starlette's middleware handles everything that goes through ASGI, including preflight requests.
Predictions bypass ASGI: ``lines_for`` returns the header lines that they need.
"""

from __future__ import annotations

from starlette.middleware.cors import CORSMiddleware

from modelyard.gateway.types import App, Headers

METHODS = ("GET", "POST", "PUT", "DELETE")
_FRAMING = "Inference-Header-Content-Length"  # of V2's binary tensors
# An origin that may ask may send what clients send, as OpenAI's and MCP's do of their own.
REQUEST_HEADERS = ("*",)
EXPOSED_HEADERS = (
    *("Content-Range", _FRAMING, "Location", "Preference-Applied", "RateLimit"),
    *("RateLimit-Policy", "Retry-After", "WWW-Authenticate", "X-Cache", "X-Request-Id"),
)
PREFLIGHT_MAX_AGE_S = 600
_LINES = b"access-control-allow-origin: %b\r\naccess-control-expose-headers: %b\r\nvary: Origin\r\n"


class Cors:
    """The allowed origins.

    Args:
        origins: Origins, separated by commas; ``*`` for any, empty for none.

    Attributes:
        is_on: Whether any origin is allowed.
    """

    def __init__(self, origins: str) -> None:
        named = (origin.strip().rstrip("/") for origin in origins.split(","))
        self._origins = sorted(filter(None, named))
        self._lines = {
            origin.encode(): _LINES % (origin.encode(), ", ".join(EXPOSED_HEADERS).encode())
            for origin in self._origins
        }
        self.is_on = bool(self._origins)
        self._for_any = self._lines.get(b"*")

    def lines_for(self, origin: bytes | None) -> bytes:
        """Return the CORS header lines for a request's ``Origin``; empty if it is missing or not
        allowed. They depend on nothing else, so they can be cached with a known head.
        """
        if origin is None:
            return b""
        return self._for_any or self._lines.get(origin, b"")

    def is_preflight(self, method: bytes, headers: Headers) -> bool:
        """Return whether this is a preflight request, which the middleware answers."""
        is_asked = method == b"OPTIONS" and b"access-control-request-method" in headers
        return is_asked and self.is_on

    def around(self, app: App) -> App:
        """Return ``app`` wrapped in the middleware, if any origin is allowed."""
        if not self.is_on:
            return app
        return CORSMiddleware(
            app,
            allow_origins=self._origins,
            allow_methods=METHODS,
            allow_headers=REQUEST_HEADERS,
            expose_headers=EXPOSED_HEADERS,
            max_age=PREFLIGHT_MAX_AGE_S,
        )
