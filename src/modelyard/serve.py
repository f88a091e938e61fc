"""``modelyard serve``, ``gateway`` and ``worker``: the processes around what ``compose`` makes.

Each imports only what it needs: one machine needs neither broker nor Redis.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from setproctitle import setproctitle

from modelyard.core.manifest import Manifest
from modelyard.display import Display, PlainDisplay, say, stopping
from modelyard.folder import Unusable
from modelyard.gateway.bind import bind
from modelyard.settings import Settings
from modelyard.telemetry.logs import set_up_logs

if TYPE_CHECKING:
    from modelyard.compose.models import Scan
    from modelyard.compose.registry import NamedIn


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
    scan: Scan,
    bad: Sequence[Unusable] = (),
    is_watching: bool = False,
    named_in: NamedIn | None = None,
) -> None:
    """Serve everything on ``listener`` until a signal says stop.

    ``named_in``: see ``Embedded``.
    ``scan`` reads the folders again. ``bad``: models that cannot be used; they are shown as failed.
    ``is_watching``: whether folders that change, come or go are served as they are then.
    """
    from modelyard.compose.access import open_gate
    from modelyard.compose.embedded import Embedded
    from modelyard.compose.jobs import open_jobs
    from modelyard.compose.registry import open_served
    from modelyard.compose.traces import open_traces

    _become("gateway", settings)
    gate = open_gate(settings)
    registry = open_served(settings)
    with open_traces(settings, "modelyard") as traces:
        shown = display()
        embedded = Embedded(
            settings,
            models,
            unusable=bad,
            on_change=shown.show,
            on_stopping=_say_what_is_finished(settings),
            scan=scan,
            gate=gate,
            registry=registry,
            jobs=open_jobs(settings, is_alone=True),
            is_watching=is_watching,
            named_in=named_in,
            traces=traces,
        )
        url = _url(listener, settings)
        settle = functools.partial(shown.settle, url, wants_key=gate is not None)
        _run(embedded.run(listener, on_settled=settle))


def serve_gateway(settings: Settings, listener: socket.socket) -> None:
    """Run a gateway until a stop signal."""
    from modelyard.compose.access import open_gate
    from modelyard.compose.gateway import ClusterGateway
    from modelyard.compose.jobs import open_jobs
    from modelyard.compose.registry import open_served
    from modelyard.compose.traces import open_traces

    _become("gateway", settings)
    gate = open_gate(settings)
    registry = open_served(settings)
    with open_traces(settings, "modelyard-gateway") as traces:
        say(f"gateway at {_url(listener, settings)}")
        gateway = ClusterGateway(
            settings,
            on_change=PlainDisplay().show,
            on_stopping=_say_what_is_finished(settings),
            gate=gate,
            registry=registry,
            jobs=open_jobs(settings, is_alone=False),
            traces=traces,
        )
        _run(gateway.run(listener))


def serve_worker(
    settings: Settings, folder: Path, manifest: Manifest, listener: socket.socket
) -> None:
    """Run a worker until a stop signal."""
    from modelyard.compose.traces import open_traces
    from modelyard.compose.worker import ClusterWorker, LoadError

    _become(f"worker {manifest.name} {manifest.version}", settings)
    with open_traces(settings, "modelyard-worker") as traces:
        say(f"worker of {manifest.target}, health and metrics at {_url(listener, settings)}")
        show = PlainDisplay().show
        worker = ClusterWorker(settings, folder, manifest, on_change=show, traces=traces)
        try:
            _run(worker.run(listener))
        except LoadError as error:
            sys.exit(f"modelyard: {error}")  # the last line: Kubernetes shows it as the message


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
