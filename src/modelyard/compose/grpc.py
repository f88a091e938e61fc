"""gRPC beside HTTP, in the same process."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from modelyard import __version__
from modelyard.access.gate import Gate
from modelyard.core.verdict import Verdict
from modelyard.dispatch.catalog import Catalog
from modelyard.gateway.types import RenderMetrics
from modelyard.grpc.pages import Pages
from modelyard.grpc.server import GrpcServer
from modelyard.settings import Settings

if TYPE_CHECKING:
    from modelyard.gateway.predict import PredictEndpoint
    from modelyard.gateway.routes import ByHand
    from modelyard.gateway.tls import Tls

log = logging.getLogger(__name__)


def make_grpc(
    settings: Settings,
    endpoint: PredictEndpoint,
    *,
    catalog: Catalog,
    render_metrics: RenderMetrics,
    verdict: Callable[[], Verdict],
    by_hand: ByHand | None,
    gate: Gate | None,
) -> GrpcServer:
    """Return a server that answers by ``endpoint``, and tells what the pages tell."""
    pages = Pages(
        catalog=catalog,
        version=__version__,
        render_metrics=render_metrics,
        verdict=verdict,
        by_hand=by_hand,
        gate=gate,
    )
    return GrpcServer(
        endpoint=endpoint,
        pages=pages,
        verdict=verdict,
        gate=gate,
        max_message_bytes=settings.max_body_bytes,
        drain_s=settings.drain_s,
    )


@contextlib.asynccontextmanager
async def serving(server: GrpcServer, settings: Settings, tls: Tls | None) -> AsyncIterator[None]:
    """Serve as long as the block, and until the calls are finished."""
    port = await server.start(settings.host, settings.grpc_port or 0, tls=tls)
    log.info("grpc_listening", extra={"host": settings.host, "port": port})
    try:
        yield
    finally:
        server.stop()
        await server.stopped()
