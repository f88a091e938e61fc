"""The web server: uvicorn's, with our own connections and our own shutdown."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import uvicorn

from modelyard.core.errors import ShuttingDown
from modelyard.gateway.bind import BACKLOG
from modelyard.gateway.connection import HttpConnection
from modelyard.gateway.handover import Pages
from modelyard.gateway.inner import listening_inside
from modelyard.gateway.known import KnownHeads
from modelyard.gateway.predict import PredictEndpoint
from modelyard.gateway.reader import Limits
from modelyard.gateway.room import room_of_process
from modelyard.gateway.types import App


class Server(uvicorn.Server):
    """Serves on bound sockets until ``stop``.

    ``inside``: the path of a socket for models of this process tree; see ``inner.py``.
    """

    inside = ""

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until ``stop``, and until the requests in flight are finished."""
        async with listening_inside(self.config, self.inside):
            await super().serve(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no signal handlers: ``compose`` handles signals."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish the requests in flight; refuse those that take too long (called by uvicorn)."""
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            if isinstance(connection, HttpConnection):
                connection.give_up(ShuttingDown("this gateway is shutting down"))

    def stop(self, *, is_forced: bool = False) -> None:
        """Stop accepting, finish the requests in flight, then let ``serve`` return."""
        self.should_exit = True
        self.force_exit = self.force_exit or is_forced


def make_server(
    pages: App,
    *,
    endpoint: PredictEndpoint | None,
    limits: Limits,
    drain_s: float,
    tls: ssl.SSLContext | None = None,
    inside: str = "",
) -> Server:
    """Return a server; ``serve(sockets=[…])`` runs it.

    Args:
        pages: The ASGI application for everything except predictions.
        endpoint: Answers predictions; None for a process without predictions.
        limits: Limits on what clients send.
        drain_s: How long ``stop`` waits for requests in flight.
        tls: With which it speaks TLS; None for plain HTTP.
        inside: Where models of this process tree ask for others; empty for nowhere.
    """
    own: dict[str, Any] = {
        "endpoint": endpoint,
        "pages": Pages(pages),
        "limits": limits,
        "known": KnownHeads(),
        "room": room_of_process(),
        "proxies": None if endpoint is None else endpoint.proxies,
        "known_of_proxies": KnownHeads(has_one_client=False),
    }
    config = uvicorn.Config(
        pages,
        http=type("Connection", (HttpConnection,), own),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, int(drain_s)),
        backlog=BACKLOG,
    )
    if tls is not None:
        config.load()
        config.ssl = tls
    server = Server(config)
    server.inside = inside
    return server
