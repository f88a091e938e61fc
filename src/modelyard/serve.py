"""``modelyard serve``: the process around ``compose.Embedded``."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from setproctitle import setproctitle

from modelyard.compose import Embedded
from modelyard.core.manifest import Manifest
from modelyard.display import Display
from modelyard.gateway.server import bind
from modelyard.settings import Settings
from modelyard.telemetry.logs import set_up_logs


def listen(settings: Settings) -> socket.socket:
    """Give a socket that listens where the settings say.

    Raises:
        OSError: The address is taken, or is none of this machine's.
    """
    return bind(settings.host, settings.port)


def serve_embedded(
    settings: Settings,
    models: list[tuple[Path, Manifest]],
    listener: socket.socket,
    *,
    display: Callable[[], Display],
) -> None:
    """Serve on ``listener`` until a signal says stop."""
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    setproctitle("modelyard: gateway")
    set_up_logs(form=settings.log_format, level=settings.log_level)
    shown = display()
    embedded = Embedded(settings, models, on_change=shown.show)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(embedded.run(listener, on_settled=lambda: shown.settle(url)))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop
