"""The same server on a socket in the file system, for the calls of the models in this process tree.

It is open until the requests in flight are finished: a model that answers one of them may call
another one while the server stops. Who may use it is who may see its folder: this user alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import uvicorn
from uvicorn.server import ServerState

from modelyard.gateway.connection import HttpConnection


@contextlib.asynccontextmanager
async def listening_inside(config: uvicorn.Config, path: str) -> AsyncIterator[None]:
    """Answer at ``path`` as a server of this configuration does, as long as the block; empty for no
    such socket.
    """
    if not path:
        yield
        return
    state = ServerState()
    if not config.loaded:
        config.load()
    kind = config.http_protocol_class
    assert issubclass(kind, HttpConnection)
    listener = await asyncio.get_running_loop().create_unix_server(
        lambda: kind(config, state, {}), path
    )
    try:
        yield
    finally:
        listener.close()
        for connection in list(state.connections):
            if isinstance(connection, HttpConnection):
                connection.transport.abort()
