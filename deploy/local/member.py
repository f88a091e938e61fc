"""A process of the cluster: its lines on our standard output, its readiness, its sure end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping

NAME_WIDTH = 32
LINES_KEPT = 20
BOUND = ("setpriv", "--pdeathsig", "KILL")  # the kernel ends it, should we be killed


class StartError(Exception):
    """The cluster cannot be started; the text says why."""


def tell(line: str) -> None:
    """Print a line at once, if anybody still reads."""
    with contextlib.suppress(OSError):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def say(name: str, line: str) -> None:
    """Print a line of ``name``."""
    tell(f"{name:<{NAME_WIDTH}} | {line}")


class Member:
    """One process.

    Args:
        name: What stands before its lines.
        command: What to run.
        environment: All of it.
        is_ready: Says whether it does its work by now; may raise ``StartError``.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        *,
        environment: Mapping[str, str],
        is_ready: Callable[[Member], bool],
    ) -> None:
        self.name = name
        self.address = ""
        self.was_ready = False
        self._command = command
        self._environment = environment
        self._is_ready = is_ready
        self._process: subprocess.Popen[str] | None = None
        self._last_lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._reader = threading.Thread(target=self._read, daemon=True)

    def start(self) -> None:
        """Start the process."""
        self._process = subprocess.Popen(
            [*BOUND, *self._command],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # so that Ctrl-C reaches only us, and each ends in its turn
        )
        self._reader.start()

    @property
    def is_ready(self) -> bool:
        """Whether it does its work by now."""
        self.was_ready = self._is_ready(self)
        return self.was_ready

    @property
    def has_ended(self) -> bool:
        """Whether nothing runs. It keeps its process id until ``reap``: no other one gets that."""
        if self._process is None or self._process.returncode is not None:
            return True
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._process.pid, options) is not None

    def last_lines(self) -> str:
        """Give the end of what it said before it ended."""
        self._reader.join(1)
        return "\n".join(self._last_lines)

    def ask_to_end(self) -> None:
        """Send SIGTERM."""
        if self._process is not None and not self.has_ended:
            os.kill(self._process.pid, signal.SIGTERM)  # Popen's own way would reap as well

    def reap(self) -> None:
        """Kill what is left of it and of what it started."""
        if self._process is None or self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(1)  # not for ever: someone else may hold the pipe open

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            text = line.rstrip()
            if not self.address and (found := re.search(r" at (http://\S+)$", text)):
                self.address = found[1]
            self._last_lines.append(text)
            say(self.name, text)
