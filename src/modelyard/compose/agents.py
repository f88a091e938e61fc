"""The page for agents, which speaks MCP, where the settings say so."""

from __future__ import annotations

import contextlib
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from modelyard import __version__
from modelyard.dispatch.catalog import Catalog
from modelyard.settings import Settings

if TYPE_CHECKING:
    from modelyard.gateway.predict import PredictEndpoint
    from modelyard.mcp.page import McpPage


def open_mcp(
    settings: Settings, catalog: Catalog, endpoint: PredictEndpoint | None
) -> McpPage | None:
    """Return the page; None if there is none."""
    if not settings.mcp or endpoint is None:
        return None
    from modelyard.mcp.page import McpPage

    return McpPage(catalog=catalog, endpoint=endpoint, version=__version__)


def running(page: McpPage | None) -> AbstractAsyncContextManager[None]:
    """Return a block in which the page answers."""
    return contextlib.nullcontext() if page is None else page.running()
