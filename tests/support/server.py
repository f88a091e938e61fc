"""A real ``modelyard serve`` for a test: its own process tree, on a free port."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import psutil

from tests.support import preloaded
from tests.support.bound import start
from tests.support.preloaded import Preloaded, run

ROOT = Path(__file__).parents[2]
MODELYARD = str(preloaded.MODELYARD)
PATIENCE_S = 60.0
IS_INSIDE = "TESTS_INSIDE" in os.environ
"""Whether members are threads, so that their lines are counted: see ``inside.py``."""


def wait_until(condition: Callable[[], Any], *, what: str) -> Any:
    """Wait for ``condition`` to hold; gives what it gave. Looks ever more rarely, since looking
    takes processor time from what it waits for.
    """
    began = time.monotonic()
    while True:
        if found := condition():
            return found
        waited_s = time.monotonic() - began
        assert waited_s < PATIENCE_S, f"waited {PATIENCE_S} s in vain: {what}"
        threading.Event().wait(min(0.02 + 0.05 * waited_s, 0.1))


def runs(process: psutil.Process) -> bool:
    """Whether it still does; one that has ended need not have been reaped."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_for_the_end_of(processes: list[psutil.Process]) -> None:
    """Wait until none of ``processes`` runs."""
    _, alive = psutil.wait_procs(processes, timeout=PATIENCE_S)
    assert not alive, f"still there: {alive}"


@contextlib.contextmanager
def frozen(*processes: psutil.Process) -> Iterator[None]:
    """Let processes stand still. Each of their threads works on for some ms: all are waited for."""
    try:
        for process in processes:
            process.suspend()
        for process in processes:
            wait_until(partial(_stands_still, process), what=f"{process} to stand still")
        yield
    finally:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()


def _stands_still(process: psutil.Process) -> bool:
    threads = Path(f"/proc/{process.pid}/task").glob("*/stat")
    try:  # a name, in parentheses, may hold anything; the state follows it: stopped, or dead
        return all(thread.read_text().rpartition(") ")[2][0] in "TZX" for thread in threads)
    except OSError:
        return False  # one has just ended: look again


def complaint_of(*command: str | Path, settings: dict[str, str] | None = None) -> str:
    """Run a ``modelyard`` that must not start; gives the one line that it says."""
    done = run(*command, "--port", "0", env={**os.environ, **(settings or {})})
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


class Member:
    """A ``modelyard`` process until the ``with`` block ends; then all it started must be gone."""

    _within: Sequence[str] = ()  # a command that starts it, with less rights

    def __init__(self, *command: str | Path, settings: dict[str, str] | None = None) -> None:
        self._command = [*map(str, command), "--port", "0"]
        self._settings = settings or {}
        self._lines: list[str] = []

    def __enter__(self) -> Self:
        environment = {**os.environ, **self._settings}
        self.process: Preloaded | subprocess.Popen[str]
        if self._within:
            self.process = start(
                [*self._within, MODELYARD, *self._command],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                text=True,
                env=environment,
            )
        else:
            self.process = Preloaded(self._command, env=environment)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        wait_until(lambda: self._address() or self.process.poll() is not None, what="an address")
        assert self.process.poll() is None, self.output
        self.url = str(self._address())
        is_tls = self.url.startswith("https:")  # otherwise reading the authorities is for nothing
        self.http = httpx.Client(base_url=self.url, timeout=PATIENCE_S, verify=is_tls)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.http.close()
        runners = self.runners()
        self.stop()
        wait_for_the_end_of(runners)

    @property
    def output(self) -> str:
        """All that the server has printed and logged so far."""
        return "".join(self._lines)

    @property
    def grpc_address(self) -> str:
        """Where it serves gRPC; it was started with ``MODELYARD_GRPC_PORT``."""

        def find() -> re.Match[str] | None:
            return re.search(r'"grpc_listening".*"host":"([^"]+)","port":(\d+)', self.output)

        found = wait_until(find, what="an address for gRPC")
        return f"{found[1]}:{found[2]}"

    def events(self, name: str) -> list[dict[str, Any]]:
        """The fields of the lines that it has logged so far of an event."""
        lines = [line for line in self.output.splitlines() if f'"event":"{name}"' in line]
        return [json.loads(line) for line in lines]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End the server with a signal; gives its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return code

    def frozen(self) -> contextlib.AbstractContextManager[None]:
        """Let it stand still, but not its runners, as long as the ``with`` block."""
        return frozen(psutil.Process(self.process.pid))

    def runners(self) -> list[psutil.Process]:
        """The runner processes, by their titles."""
        try:
            children = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        found = []
        for child in children:
            try:
                if " ".join(child.cmdline()).startswith("modelyard: runner"):
                    found.append(child)
            except psutil.NoSuchProcess:
                continue
        return found

    def predict(self, name: str, instances: Any, **more: Any) -> httpx.Response:
        """Ask for predictions."""
        headers = more.pop("headers", {})
        body = {"model_name": name, "input_data": instances, **more}
        return self.http.post("/predict", json=body, headers=headers)

    def metric(self, name: str, **labels: str) -> float:
        """Sum a metric's samples that have these labels."""
        total = 0.0
        for line in self.http.get("/metrics").text.splitlines():
            if re.match(rf"{name}(\{{|\s)", line) and all(
                f'{label}="{value}"' in line for label, value in labels.items()
            ):
                total += float(line.rsplit(" ", 1)[1])
        return total

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self._lines.append(line)

    def _address(self) -> str | None:
        found = re.search(r"^[^{\n]* at (https?://\S+)", self.output, re.MULTILINE)  # no log
        return found[1] if found else None


class Server(Member):
    """Serves model folders, all in one process tree."""

    def __init__(self, *folders: Path, settings: dict[str, str] | None = None) -> None:
        super().__init__("serve", *folders, settings=settings)


if IS_INSIDE:
    from tests.support import inside

    Member, Server = inside.Member, inside.Server  # type: ignore[assignment, misc]
