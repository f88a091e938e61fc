"""The same server on a socket in the file system, for the calls of the models in this process tree.

It is open until the requests in flight are finished: a model that answers one of them may call
another one while the server stops. Who may use it is who may see its folder: this user alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from uvicorn.server import ServerState

from modelyard.gateway.connection import HttpConnection
from modelyard.gateway.server import Server


@contextlib.asynccontextmanager
async def listening_inside(server: Server, path: Path | None) -> AsyncIterator[None]:
    """Answer at ``path`` as ``server`` does, as long as the block; None for no such socket."""
    if path is None:
        yield
        return
    config, state = server.config, ServerState()
    if not config.loaded:
        config.load()
    kind = config.http_protocol_class
    assert issubclass(kind, HttpConnection)
    listener = await asyncio.get_running_loop().create_unix_server(
        lambda: kind(config, state, {}), str(path)
    )
    try:
        yield
    finally:
        listener.close()
        for connection in list(state.connections):
            if isinstance(connection, HttpConnection):
                connection.transport.abort()
