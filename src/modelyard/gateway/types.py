"""The types of ASGI, of responses, and of the metrics that the gateway reports."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

from modelyard.core.names import Target

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Header = tuple[bytes, bytes]
Headers = dict[bytes, bytes]

Respond = Callable[[bytes, bytes], None]
"""Sends a response: status line and headers without the blank line, and body."""


class RenderMetrics(Protocol):
    """Returns the metrics and their content type."""

    def __call__(self, accept: str = "") -> tuple[bytes, str]:
        """``accept``: what the caller reads."""
        ...


class GatewayMetrics(Protocol):
    """The metrics that the gateway reports."""

    def answered(self, target: Target | None, code: str, seconds: float) -> None:
        """A request was answered: ``ok`` or the code of a problem."""
        ...
