"""``modelyard serve``, ``gateway`` and ``worker``: the processes around what ``compose`` makes.

Each imports only what it needs: one machine needs neither broker nor Redis.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path

from setproctitle import setproctitle

from modelyard.core.manifest import Limits, Manifest
from modelyard.core.messages import Announcement
from modelyard.display import Display, PlainDisplay, say, stopping
from modelyard.folder import Unusable
from modelyard.gateway.bind import bind
from modelyard.settings import Settings
from modelyard.telemetry.logs import set_up_logs

Scan = Callable[[], tuple[list[tuple[Path, Manifest]], list[Unusable]]]


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens there.

    Raises:
        OSError: The address is taken, or is none of this machine's.
    """
    return bind(host, port)


def serve_embedded(
    settings: Settings,
    models: list[tuple[Path, Manifest]],
    listener: socket.socket,
    *,
    display: Callable[[], Display],
    bad: Sequence[Unusable] = (),
    scan: Scan | None = None,
) -> None:
    """Serve everything on ``listener`` until a signal says stop.

    ``bad``: models whose manifest cannot be used; they are shown as failed. ``scan``: reads the
    folders again, if they are watched for changes.
    """
    from modelyard.compose.access import open_gate
    from modelyard.compose.embedded import Embedded

    gate = open_gate(settings)
    _become("gateway", settings)
    shown = display()
    embedded = Embedded(
        settings,
        models,
        failed=failed(bad),
        on_change=shown.show,
        on_stopping=_say_what_is_finished(settings),
        scan=scan,
        gate=gate,
    )
    url = _url(listener, settings)
    _run(embedded.run(listener, on_settled=lambda: shown.settle(url)))


def serve_gateway(settings: Settings, listener: socket.socket) -> None:
    """Run a gateway until a stop signal."""
    from modelyard.compose.access import open_gate
    from modelyard.compose.cluster import ClusterGateway

    gate = open_gate(settings)
    _become("gateway", settings)
    say(f"gateway at {_url(listener, settings)}")
    gateway = ClusterGateway(
        settings,
        on_change=PlainDisplay().show,
        on_stopping=_say_what_is_finished(settings),
        gate=gate,
    )
    _run(gateway.run(listener))


def serve_worker(
    settings: Settings, folder: Path, manifest: Manifest, listener: socket.socket
) -> None:
    """Run a worker until a stop signal."""
    from modelyard.compose.cluster import ClusterWorker, LoadError

    _become(f"worker {manifest.name} {manifest.version}", settings)
    say(f"worker of {manifest.target}, health and metrics at {_url(listener, settings)}")
    worker = ClusterWorker(settings, folder, manifest, on_change=PlainDisplay().show)
    try:
        _run(worker.run(listener))
    except LoadError as error:
        sys.exit(f"modelyard: {error}")  # the last line: Kubernetes shows it as the pod's message


def failed(bad: Sequence[Unusable]) -> list[Announcement]:
    """Return the announcements of models whose manifest cannot be used."""
    return [
        Announcement(
            target=one.target,
            state="failed",
            description="",
            limits=Limits(),
            cache_ttl_s=0,
            max_batch_size=0,
            runners=0,
            runners_ready=0,
            reason=str(one.error),
            workers=0,
        )
        for one in bad
        if one.target is not None
    ]


def _say_what_is_finished(settings: Settings) -> Callable[[int], None]:
    def on_stopping(in_flight: int) -> None:
        if in_flight:
            say(stopping(in_flight, drain_s=settings.drain_s))

    return on_stopping


def _become(role: str, settings: Settings) -> None:
    setproctitle(f"modelyard: {role}")
    set_up_logs(form=settings.log_format, level=settings.log_level)


def _url(listener: socket.socket, settings: Settings) -> str:
    host, port = listener.getsockname()[:2]
    scheme = "https" if settings.tls_certificate else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _run(main: Coroutine[None, None, None]) -> None:
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(main)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop
