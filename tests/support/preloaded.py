"""``modelyard`` processes that are forked from one that has imported everything already.

Imports are most of what a start costs the processor, and the tests start hundreds. A forked one is
a process of its own with the arguments, environment and files that it is given. It runs the same
function as the console script, and the kernel kills it when the tests are gone.
"""

from __future__ import annotations

import atexit
import ctypes
import io
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

from tests.support.bound import start

IMPORTED = (
    *("modelyard.cli.serving", "modelyard.cli.storing", "modelyard.cli.registering"),
    *("modelyard.cli.asking", "modelyard.cli.routing", "modelyard.cli.looking"),
    *("modelyard.compose.embedded", "modelyard.compose.gateway", "modelyard.compose.worker"),
    *("modelyard.compose.jobs", "modelyard.compose.access", "modelyard.compose.endpoint"),
    *("modelyard.serve", "modelyard.compose.console", "modelyard.gateway.server"),
    *("modelyard.gateway.app", "modelyard.console.pages", "modelyard.telemetry.prometheus"),
    *("modelyard.telemetry.statistics", "modelyard.core.datatypes"),
    *("modelyard.store.changing", "modelyard.store.schema", "alembic.command"),
    "sqlalchemy.dialects.sqlite",
)
MODELYARD = Path(sys.executable).with_name("modelyard").resolve()  # may be of another environment
MOST_BYTES = 1 << 20
_PR_SET_PDEATHSIG = 1


class Preloaded:
    """A forked ``modelyard``: what tests use of ``subprocess.Popen``. Its output is one pipe.

    Attributes:
        pid: Of the process.
        stdout: What it writes, errors among it unless they were to go elsewhere.
        returncode: None while it is not known to have ended.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stderr: int | None = None,
    ) -> None:
        given = os.environ if env is None else env
        reading, writing = os.pipe()
        self.stdout: IO[str] = os.fdopen(reading, encoding="utf-8", errors="replace")
        self._end, theirs = socket.socketpair()
        asked = {
            "arguments": list(arguments),
            # The tests' own are no settings, and would be complained of.
            "env": {key: given[key] for key in given if not key.startswith("MODELYARD_TEST_")},
            "cwd": str(Path.cwd()),
        }
        try:
            files = [writing, writing if stderr is None else stderr, theirs.fileno()]
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
                channel.connect(_forker())
                socket.send_fds(channel, [json.dumps(asked).encode()], files)
                self.pid = int(channel.recv(32))
        finally:
            os.close(writing)
            theirs.close()
        self.returncode: int | None = None
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """Return its exit code; None while it runs."""
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; gives its exit code, or minus the signal that ended it."""
        give_up = None if timeout is None else time.monotonic() + timeout
        while (code := self._look(0.2)) is None:
            if give_up is not None and time.monotonic() > give_up:
                raise subprocess.TimeoutExpired(f"modelyard, process {self.pid}", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)

    def _look(self, within_s: float) -> int | None:
        with self._lock:
            if self.returncode is None and select.select([self._end], [], [], within_s)[0]:
                self.returncode = int(self._end.recv(32) or -signal.SIGKILL)
                self._end.close()
            return self.returncode


class Ended(NamedTuple):
    """What a command came to."""

    returncode: int
    stdout: str
    stderr: str


def run(
    *arguments: str | Path, env: Mapping[str, str] | None = None, timeout: float | None = None
) -> Ended:
    """Run a ``modelyard`` command to its end, without input.

    After ``timeout`` seconds it is killed, which is an error.
    """
    reading, writing = os.pipe()
    errors: list[str] = []
    try:
        process = Preloaded([*map(str, arguments)], env=env, stderr=writing)
    finally:
        os.close(writing)
    with os.fdopen(reading, encoding="utf-8", errors="replace") as stderr, process.stdout:
        reader = threading.Thread(target=lambda: errors.append(stderr.read()))
        reader.start()
        with _killed_after(timeout, process) as killed:
            output = process.stdout.read()
            reader.join()
    assert not killed.is_set(), f"modelyard {arguments} took more than {timeout} s"
    return Ended(process.wait(), output, errors[0])


@contextmanager
def _killed_after(seconds: float | None, process: Preloaded) -> Iterator[threading.Event]:
    killed = threading.Event()

    def kill() -> None:
        killed.set()
        process.kill()

    timer = threading.Timer(seconds or 0, kill)
    if seconds is not None:
        timer.start()
    try:
        yield killed
    finally:
        timer.cancel()


@cache
def _forker() -> str:
    """Start what forks; gives its address."""
    name = f"modelyard-tests-{os.getpid()}"
    process = start(
        [str(MODELYARD.with_name("python")), "-m", "tests.support.preloaded", name],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    with process.stdout:
        process.stdout.read()  # until it listens
    atexit.register(_end, process)
    return f"\0{name}"


def _end(forker: subprocess.Popen[Any]) -> None:
    forker.kill()
    forker.wait()


def _fork_for_ever(address: str) -> None:
    """Fork for all who ask; returns in each child, with all set for it."""
    import gc
    from importlib import import_module

    from setproctitle import getproctitle

    for name in IMPORTED:
        with suppress(ModuleNotFoundError):  # where there is only what a worker needs
            import_module(name)
    getproctitle()  # finds where the title is, while the environment is still behind it
    gc.collect()
    gc.freeze()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listening.bind(address)
    listening.listen(128)
    waking, woken = socket.socketpair()
    waking.setblocking(False)
    woken.setblocking(False)
    signal.set_wakeup_fd(waking.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # says that it listens
    ends: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([listening, woken], [], [])
        if woken in ready:
            woken.recv(4096)
            _bury(ends)
        if listening not in ready:
            continue
        channel, _ = listening.accept()
        message, files, _, _ = socket.recv_fds(channel, MOST_BYTES, 3)
        asked = json.loads(message)
        if pid := os.fork():
            channel.send(b"%d" % pid)
            channel.close()
            ends[pid] = socket.socket(fileno=files.pop())
            for file in files:
                os.close(file)
            continue
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for one in (listening, waking, woken, channel, *ends.values()):
            one.close()
        _become(asked, files)
        return


def _bury(ends: dict[int, socket.socket]) -> None:
    """Tell how those have ended that have."""
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            with ends.pop(pid) as end, suppress(OSError):
                end.send(b"%d" % os.waitstatus_to_exitcode(status))


def _become(asked: dict[str, Any], files: list[int]) -> None:
    """Be the process that was asked for, up to its first line of code."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    output, errors, end = files
    os.close(end)
    os.dup2(output, 1)
    os.dup2(errors, 2)
    os.close(output)
    os.close(errors)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.argv = [str(MODELYARD), *asked["arguments"]]
    sys.stdout, sys.stderr = _open(1), _open(2)


def _open(file: int) -> io.TextIOWrapper:
    is_flushed = file == 2 or bool(os.environ.get("PYTHONUNBUFFERED"))
    written = io.BufferedWriter(io.FileIO(file, "w", closefd=False))
    errors = "strict" if file == 1 else "backslashreplace"
    return io.TextIOWrapper(written, encoding="utf-8", errors=errors, line_buffering=is_flushed)


def _run() -> NoReturn:
    from modelyard.cli import main

    _fork_for_ever(f"\0{sys.argv[1]}")
    main()
    sys.exit()


if __name__ == "__main__":
    _run()
