"""``modelyard serve`` inside this process, the models in threads, so that what tests reach of its
code is seen by what counts lines. ``make coverage`` runs tests of pages so, unchanged.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from contextlib import ExitStack, nullcontext
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Self
from unittest import mock

import httpx
import psutil

from modelyard.compose.access import open_gate
from modelyard.compose.embedded import Embedded
from modelyard.compose.jobs import open_jobs
from modelyard.compose.registry import open_served
from modelyard.core.messages import LoadFailed, encode_frame
from modelyard.folder import find_models, read_manifests
from modelyard.gateway.bind import bind
from modelyard.runner import __main__ as runner
from modelyard.runner.concurrent.host import ConcurrentModel
from modelyard.runner.concurrent.serving import serve
from modelyard.runner.loading import LoadError
from modelyard.runner.metering import Metering
from modelyard.runner.reports import Reports
from modelyard.runner.shared_batches import SharedBatches
from modelyard.settings import load_settings
from tests.support.server import PATIENCE_S, Member

_numbers = count(1 << 30)  # no process has such an id
_loading = threading.Lock()  # modules of models have one name
_own = threading.local()


def _loop_of_thread() -> asyncio.AbstractEventLoop:
    """Return the loop of a thread's model; a process has one for its own."""
    if not hasattr(_own, "loop"):
        _own.loop = asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = _own.loop
    return loop


class Thread:
    """What a pool sees of the process of a runner."""

    def __init__(self, folder: Path, channel: int, memory: int, *, shows_errors: bool) -> None:
        self.pid = next(_numbers)
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        arguments = (folder, socket.socket(fileno=channel), memory, shows_errors)
        threading.Thread(target=self._run, args=arguments, daemon=True).start()

    async def wait(self) -> int:
        await self._ended.wait()
        return 0

    def _run(self, folder: Path, channel: socket.socket, memory: int, shows_errors: bool) -> None:
        try:
            with channel:
                self._serve(folder, channel, memory, shows_errors=shows_errors)
        finally:
            os.close(memory)
            self._loop.call_soon_threadsafe(self._ended.set)

    def _serve(
        self, folder: Path, channel: socket.socket, memory: int, *, shows_errors: bool
    ) -> None:
        try:
            with _loading:
                hosted, ready = runner._open(folder, shows_errors=shows_errors, is_signed=False)
        except LoadError as error:
            channel.sendall(encode_frame(LoadFailed(str(error), error.told)))
            return
        channel.sendall(encode_frame(ready))
        if hosted.is_concurrent:
            serve(channel, hosted, tidy_up=lambda: None)
            return
        hosted.report_by(Reports(channel))
        metering = Metering(hosted.metrics, channel)
        runner._serve(channel, hosted, SharedBatches(memory), metering)
        hosted.unload()


async def _start(*command: Any, pass_fds: tuple[int, int], **_: Any) -> Thread:
    channel, memory = map(os.dup, pass_fds)
    return Thread(Path(command[-1]), channel, memory, shows_errors="--show-errors" in command)


class Server(Member):
    """Serves model folders; see ``server.Server``."""

    def __init__(self, *folders: Path, settings: dict[str, str] | None = None) -> None:
        super().__init__("serve", *folders, settings=settings)
        self._folders = [folder.absolute() for folder in folders]
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with mock.patch.dict(os.environ, self._settings):
            settings = load_settings({})
        models, _ = read_manifests(find_models(self._folders))
        enter = self._stack.enter_context
        enter(mock.patch("asyncio.create_subprocess_exec", _start))
        enter(mock.patch("modelyard.compose.embedded.stop_on_signals", return_value=nullcontext()))
        enter(mock.patch.object(ConcurrentModel, "the_loop", staticmethod(_loop_of_thread)))
        listener = bind("127.0.0.1", 0)
        self._embedded = Embedded(
            settings,
            models,
            on_change=lambda *_: None,
            scan=lambda: (models, []),
            is_watching=False,
            gate=open_gate(settings),
            registry=open_served(settings),
            jobs=open_jobs(settings, is_alone=True),
        )
        self._loop, self._settled = asyncio.new_event_loop(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(listener,))
        self._thread.start()
        assert self._settled.wait(PATIENCE_S), "the models"
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.http = enter(httpx.Client(base_url=self.url, timeout=PATIENCE_S))
        return self

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop it."""
        if self._thread.is_alive():
            stop = partial(self._embedded._process.stop, is_forced=False)
            self._loop.call_soon_threadsafe(stop)
            self._thread.join(PATIENCE_S)
            assert not self._thread.is_alive()
        self._stack.close()
        return 0

    def runners(self) -> list[psutil.Process]:
        """None: they are threads."""
        return []

    def _run(self, listener: socket.socket) -> None:
        asyncio.set_event_loop(self._loop)
        serving = self._embedded.run(listener, on_settled=self._settled.set)
        self._loop.run_until_complete(serving)
