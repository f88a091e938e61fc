"""The page ``/mcp``: Streamable HTTP without sessions, by the protocol's own Python SDK.

Without sessions any gateway can answer any request.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import Request
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
)

from modelyard.core.errors import Forbidden
from modelyard.dispatch.catalog import Catalog
from modelyard.gateway.predict import PredictEndpoint
from modelyard.gateway.rules import seen
from modelyard.gateway.types import Receive, Scope, Send
from modelyard.mcp.calls import call_model
from modelyard.mcp.tools import tool_of

Context = ServerRequestContext[Any, Request]


class McpPage:
    """An ASGI application.

    Args:
        catalog: Its models are the tools.
        endpoint: Answers calls.
        version: Of Modelyard.
    """

    def __init__(self, *, catalog: Catalog, endpoint: PredictEndpoint, version: str) -> None:
        self._catalog = catalog
        self._endpoint = endpoint
        server = Server[Any](
            "modelyard",
            version=version,
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
        )
        self._manager = StreamableHTTPSessionManager(server, stateless=True, json_response=True)

    def running(self) -> AbstractAsyncContextManager[None]:
        """Return a block in which requests can be answered."""
        return self._manager.run()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request.

        Raises:
            Forbidden: A page of an origin that ``cors_origins`` does not name has sent it. A page
                can have a name that leads to this machine, so the browser would not object.
        """
        origin = dict(scope["headers"]).get(b"origin")
        if origin is not None and not self._endpoint.cors.lines_for(origin):
            raise Forbidden("pages of this origin may not ask; cors_origins names those that may")
        await self._manager.handle_request(scope, receive, send)

    async def _list_tools(
        self, context: Context, params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        """Return the models that the caller may see, all at once."""
        assert context.request is not None
        entries = seen(context.request, self._catalog.entries())
        defaults = (entry for entry in entries if self._catalog.is_default(entry))
        return ListToolsResult(tools=[tool for tool in map(tool_of, defaults) if tool is not None])

    async def _call_tool(self, context: Context, params: CallToolRequestParams) -> CallToolResult:
        assert context.request is not None
        return await call_model(self._endpoint, context.request, params)
