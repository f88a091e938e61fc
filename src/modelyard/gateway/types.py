"""The vocabulary of ASGI, as far as the gateway speaks it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = dict[bytes, bytes]

Respond = Callable[[bytes, bytes], bool]
"""``scope["modelyard.respond"]``, where the server offers it: see ``gateway/server.py``."""
