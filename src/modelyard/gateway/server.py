"""The web server: uvicorn with our protocol, ended by us and not by it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

from modelyard.core.errors import ShuttingDown
from modelyard.gateway.bind import BACKLOG
from modelyard.gateway.hot import HotProtocol
from modelyard.gateway.predict import PredictEndpoint
from modelyard.gateway.protocol import KEEP_ALIVE_S, LimitedProtocol
from modelyard.gateway.types import App


class Server(uvicorn.Server):
    """Serves on sockets that are bound already, until ``stop``."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to whoever composes the process."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what is under way, and refuse what takes too long (called by uvicorn)."""
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            if isinstance(connection, HotProtocol):
                connection.give_up(ShuttingDown("this gateway is shutting down"))
            if isinstance(connection, LimitedProtocol) and connection.flow.write_paused:
                connection.transport.abort()  # its client does not read, and we would wait for it

    def stop(self, *, is_forced: bool = False) -> None:
        """Accept no more, finish what is under way, then let ``serve`` return."""
        self.should_exit = True
        self.force_exit = self.force_exit or is_forced


def make_server(
    app: App, *, endpoint: PredictEndpoint | None, header_timeout_s: float, drain_s: float
) -> Server:
    """Give a server for ``app``; ``serve(sockets=[…])`` runs it.

    Args:
        app: The ASGI application.
        endpoint: Answers predictions without ASGI where that can be.
        header_timeout_s: How long a client may take for its headers.
        drain_s: How long ``stop`` waits for requests under way.
    """
    base = LimitedProtocol if endpoint is None else HotProtocol
    own: dict[str, Any] = {
        "header_timeout_s": header_timeout_s,
        "endpoint": endpoint,
        "known_heads": {},
    }
    protocol = type("Protocol", (base,), own)
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, int(drain_s)),
        backlog=BACKLOG,
    )
    return Server(config)
