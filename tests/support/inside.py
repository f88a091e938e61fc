"""``modelyard serve``, ``gateway`` and ``worker`` as threads of this process, and so their models,
so that what counts lines sees what tests reach. ``make coverage`` runs tests of whole processes
so, unchanged; those that need a process to kill or to look at are skipped.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import io
import logging
import os
import signal
import socket
import sys
import threading
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, NoReturn, Self
from unittest import mock

import fsspec
import httpx
import pytest

import modelyard.cli.serving
import modelyard.compose.embedded
import modelyard.compose.gateway
import modelyard.compose.worker
import modelyard.display
import modelyard.serve
from modelyard.cli import main
from modelyard.cli.mistakes import USAGE_ERROR
from modelyard.compose.running import Stop
from modelyard.core.messages import LoadFailed, encode_frame
from modelyard.core.spans import RUNNER_TRACES
from modelyard.core.trail import CALL_KEY, GATEWAY_URL
from modelyard.runner import __main__ as runner
from modelyard.runner.concurrent.host import ConcurrentModel
from modelyard.runner.concurrent.serving import serve
from modelyard.runner.host import Gateway, HostedModel
from modelyard.runner.loading import LoadError, foreign_cause
from modelyard.runner.metering import Metering
from modelyard.runner.reports import Reports
from modelyard.runner.shared_batches import SharedBatches
from modelyard.settings import Settings
from modelyard.telemetry.logs import JsonFormatter
from tests.simulation.serve import serving
from tests.support import server

log = logging.getLogger(__name__)

_numbers = count(1 << 30)  # no process has such an id
_loading = threading.Lock()  # modules of models have one name
_own = threading.local()  # the member or the runner of a thread
_pid = os.getpid()  # not that of what is forked
_runners: dict[int, Runner] = {}
_exit, _kill_group, _start_process = os._exit, os.killpg, asyncio.create_subprocess_exec
_print = builtins.print


class Runner:
    """What a pool sees of the process of a runner."""

    def __init__(self, command: list[str], *fds: int, env: dict[str, str]) -> None:
        self.pid = next(_numbers)
        _runners[self.pid] = self
        self._command, self._env = command, env
        channel, self._memory, self._output = map(os.dup, fds)
        self._channel = socket.socket(fileno=channel)
        self._code: int | None = None
        self._ended = asyncio.Event()
        self._loop, self._member = asyncio.get_running_loop(), _own.member
        threading.Thread(target=self._run, daemon=True).start()

    async def wait(self) -> int:
        await self._ended.wait()
        assert self._code is not None
        return self._code

    def end(self, code: int) -> None:
        """Be gone. Threads cannot be killed: one that does not look at its socket stays."""
        if self._code is None:
            self._code = code
            with contextlib.suppress(OSError):
                self._channel.shutdown(socket.SHUT_RDWR)
            with contextlib.suppress(RuntimeError):  # its pool has gone before
                self._loop.call_soon_threadsafe(self._ended.set)

    def print(self, text: str) -> None:
        """Write to what is standard output in a process of its own."""
        os.write(self._output, text.encode())

    def _run(self) -> None:
        _own.runner, _own.member = self, self._member
        try:
            self._serve()
        except BaseException:
            log.exception("runner_crashed")
            self.end(1)
        finally:
            self.end(0)
            self._channel.close()
            os.close(self._memory)
            os.close(self._output)

    def _serve(self) -> None:
        parser = ArgumentParser()
        parser.add_argument("--fd", nargs="+")
        parser.add_argument("--parent")
        parser.add_argument("--name")
        parser.add_argument("--version")
        parser.add_argument("--show-errors", action="store_true")
        parser.add_argument("folder", type=Path)
        told, _ = parser.parse_known_args(self._command)
        env, channel = self._env, self._channel
        try:
            with _loading:
                hosted = HostedModel.open(
                    told.folder,
                    shows_errors=told.show_errors,
                    is_signed=False,
                    gateway=Gateway(env.get(GATEWAY_URL, ""), env.get(CALL_KEY, "")),
                )
                ready = hosted.warm_up()
                _keep_modules(told.folder, number=self.pid)
        except LoadError as error:
            cause = foreign_cause(error)
            log.error("the model cannot be served: %s", error, exc_info=cause)
            channel.sendall(encode_frame(LoadFailed(str(error), error.told)))
            self.end(1)
            return
        if traces := env.get(RUNNER_TRACES):
            runner._trace(hosted, traces, name=told.name, version=told.version)
        channel.sendall(encode_frame(ready))
        if hosted.is_concurrent:
            serve(channel, hosted, tidy_up=lambda: None)
            return
        hosted.report_by(Reports(channel))
        metering = Metering(hosted.metrics, channel)
        runner._serve(channel, hosted, SharedBatches(self._memory), metering)
        hosted.unload()
        metering.tell_last()


class _Log(logging.Handler):
    """Keeps what the thread of a member logs."""

    def __init__(self, member: Member) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(JsonFormatter())
        self._member = member

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(_own, "member", None) is self._member:
            self._member.say(self.format(record))


class Member(server.Member):
    """One that is a thread; see ``server.Member``."""

    _stop: Callable[[], None] | None = None
    _code: str | int | None = None

    def __enter__(self) -> Self:
        self._log = _Log(self)
        root = logging.getLogger()
        root.setLevel(logging.INFO)
        root.addHandler(self._log)
        self._thread = threading.Thread(target=self._run)
        # What is its own is read when it starts; what libraries look for, whenever they like.
        foreign = {name for name in self._settings if not name.startswith("MODELYARD_")}
        self._found = {name: os.environ.get(name) for name in foreign}
        os.environ.update({name: self._settings[name] for name in foreign})
        fsspec.get_filesystem_class("s3").clear_instance_cache()  # of a server that has ended
        with mock.patch.dict(os.environ, self._settings):
            self._thread.start()
            server.wait_until(
                lambda: self._address() or not self._thread.is_alive(), what="an address"
            )
        assert self._address(), self.output
        self.url = str(self._address())
        is_tls = self.url.startswith("https:")
        self.http = httpx.Client(base_url=self.url, timeout=server.PATIENCE_S, verify=is_tls)
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        self.stop()
        for name, value in self._found.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
        logging.getLogger().removeHandler(self._log)

    def __getattribute__(self, name: str) -> Any:
        if name in ("process", "runners", "frozen"):
            pytest.skip(f"needs a process of its own: {name}")
        return super().__getattribute__(name)

    def say(self, text: str) -> None:
        """Add a line to its output."""
        self._lines.append(f"{text}\n")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop it as a signal would."""
        if number == signal.SIGKILL:
            pytest.skip("needs a process to kill")
        if self._thread.is_alive() and self._stop is not None:
            with contextlib.suppress(RuntimeError):  # it has just ended
                self._stop()
        self._thread.join(server.PATIENCE_S)
        assert not self._thread.is_alive(), f"does not end: {self._command}"
        return self._code if isinstance(self._code, int) else int(self._code is not None)

    @contextlib.contextmanager
    def stopped_by(self, stop: Stop) -> Iterator[None]:
        """Have ``stop`` called by ``self.stop`` as long as the block."""
        loop, is_forced = asyncio.get_running_loop(), iter((False,))

        def ask() -> None:
            forced = next(is_forced, True)
            loop.call_soon_threadsafe(lambda: stop(is_forced=forced))

        self._stop = ask
        yield
        self._stop = None

    def _run(self) -> None:
        _own.member = self
        try:
            main(self._command)
        except SystemExit as end:
            self._code = end.code
            if isinstance(end.code, str):
                self.say(end.code)


class Server(Member):
    """Serves model folders; see ``server.Server``."""

    def __init__(self, *folders: Path, settings: dict[str, str] | None = None) -> None:
        super().__init__("serve", *folders, settings=settings)


class Broker:
    """RabbitMQ as the simulator has it, behind a real socket; see ``broker.Broker``."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._serving = serving()
        self._served = self._wait(self._serving.__aenter__())
        self.url = self._served.url
        return self

    def __exit__(self, *_: object) -> None:
        self._wait(self._serving.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(server.PATIENCE_S)
        self._loop.close()

    def __getattr__(self, name: str) -> NoReturn:
        pytest.skip(f"needs the processes of a broker: {name}")

    def forget_targets(self) -> None:
        """Drop the cards that gateways keep."""

    def _wait(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(server.PATIENCE_S)


async def _start(*command: Any, **how: Any) -> Any:
    if "modelyard.runner" not in command:
        return await _start_process(*command, **how)
    return Runner(list(map(str, command[4:])), *how["pass_fds"], how["stdout"], env=how["env"])


def _kill(pid: int, number: int) -> None:
    if (found := _runners.pop(pid, None)) is None:
        _kill_group(pid, number)
    else:
        found.end(-number)


def _leave(code: int) -> None:
    """End a runner from within: its thread runs no further."""
    ending = getattr(_own, "runner", None)
    if ending is None or os.getpid() != _pid:
        _exit(code)
    else:
        ending.end(code)
        threading.Event().wait()


def _tell(*words: Any, **how: Any) -> None:
    running: Runner | None = getattr(_own, "runner", None)
    if running is None or how.get("file") is not None:
        _print(*words, **how)
    else:
        written = io.StringIO()
        _print(*words, **how, file=written)
        running.print(written.getvalue())


def _keep_modules(folder: Path, *, number: int) -> None:
    """Name the modules of a model anew: the next one's may have the same names."""
    for name, module in list(sys.modules.items()):
        if Path(getattr(module, "__file__", None) or "/").is_relative_to(folder / "src"):
            sys.modules[own := f"{name}.{number}"] = sys.modules.pop(name)
            for value in vars(module).values():
                if isinstance(value, type) and value.__module__ == name:
                    value.__module__ = own  # where its annotations are looked up


def _loop_of_thread() -> asyncio.AbstractEventLoop:
    """Return the loop of a thread's model; a process has one for its own."""
    if not hasattr(_own, "loop"):
        _own.loop = asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = _own.loop
    return loop


def _say(text: str) -> None:
    _own.member.say(text)


def _warn(text: str) -> None:
    _say(f"modelyard: {text}")


def _complain(text: str) -> int:
    _warn(text)
    return USAGE_ERROR


def _stop_on_signals(stop: Stop) -> contextlib.AbstractContextManager[None]:
    member: Member = _own.member
    return member.stopped_by(stop)


def _become(role: str, settings: Settings) -> None:
    """Keep the title and the logs of this process as they are."""


for owner, name, ours in (
    (builtins, "print", _tell),
    (os, "_exit", _leave),
    (os, "killpg", _kill),
    (asyncio, "create_subprocess_exec", _start),
    (ConcurrentModel, "the_loop", staticmethod(_loop_of_thread)),
    (modelyard.cli, "complain", _complain),
    (modelyard.cli.serving, "warn", _warn),
    (modelyard.serve, "_become", _become),
    (modelyard.serve, "say", _say),
    (modelyard.display, "say", _say),
    (modelyard.compose.embedded, "stop_on_signals", _stop_on_signals),
    (modelyard.compose.gateway, "stop_on_signals", _stop_on_signals),
    (modelyard.compose.worker, "stop_on_signals", _stop_on_signals),
):
    setattr(owner, name, ours)
