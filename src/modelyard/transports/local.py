"""The transport within one process tree: a call to the pool that owns the target."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from modelyard.core.errors import ModelNotReady
from modelyard.core.messages import Request
from modelyard.core.names import Target

Submit = Callable[[Request], "asyncio.Future[bytes]"]


class LocalTransport:
    """Gives each request to the ``submit`` of its target's pool."""

    def __init__(self) -> None:
        self._submits: dict[Target, Submit] = {}

    @property
    def is_open(self) -> bool:
        """Always: there is nothing in between."""
        return True

    def connect(self, target: Target, submit: Submit) -> None:
        """Send the requests of ``target`` to ``submit``."""
        self._submits[target] = submit

    def send(self, request: Request) -> asyncio.Future[bytes]:
        """Carry a request; the future gives the JSON of its predictions or a RequestError."""
        submit = self._submits.get(request.target)
        if submit is not None:
            return submit(request)
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        future.set_exception(ModelNotReady(f"nobody serves {request.target}"))
        return future
