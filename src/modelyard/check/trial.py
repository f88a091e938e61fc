"""A runner that is started once for ``modelyard check``, as a pool starts it, and ended again."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, NamedTuple

from modelyard.core.manifest import Manifest
from modelyard.core.messages import (
    FRAME_HEADER_BYTES,
    Answers,
    Batch,
    LoadFailed,
    Ready,
    encode_batch,
    to_pool,
)
from modelyard.core.records import RECORD_MARK, decode_record
from modelyard.equipment.equipper import Equipment

MOST_PRINTED = 40  # lines; the last say what happened
NO_EXAMPLE = b"null"


class Loaded(NamedTuple):
    """What a runner said, or why it did not; the most memory that it had; what it printed.

    ``is_steady``: whether two answers to the example were equal; None if there were none.
    """

    said: Ready | str
    peak_bytes: int
    printed: list[str]
    is_steady: bool | None


def load_once(folder: Path, manifest: Manifest, equipment: Equipment) -> Loaded:
    """Start a runner, as a pool does, and end it when it has said what it has to say.

    If answers are cached, the example is answered twice more and the answers are compared.
    """
    is_steady = None
    ours, theirs = socket.socketpair()
    with ours, tempfile.TemporaryFile() as output:
        with theirs:
            runner = _start(folder, manifest, equipment, channel=theirs, output=output)
        said = _first_word(ours, manifest.limits.load_timeout_s)
        if isinstance(said, Ready) and manifest.cache.ttl_s and said.example != NO_EXAMPLE:
            ours.settimeout(manifest.limits.timeout_s)
            is_steady = _answers_alike(ours, said.example)
        if said is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(runner.pid, signal.SIGKILL)
        _, status, usage = os.wait4(runner.pid, 0)  # unlike Popen's, it tells the memory
        runner.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        printed = [line for raw in output for line in _as_text(raw)][-MOST_PRINTED:]
    if said is None:
        code = runner.returncode
        died = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        said = f"its process ended with {died}"
    peak_bytes = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Loaded(said, peak_bytes, printed, is_steady)


def _start(
    folder: Path,
    manifest: Manifest,
    equipment: Equipment,
    *,
    channel: socket.socket,
    output: IO[bytes],
) -> subprocess.Popen[bytes]:
    command = (equipment.python, "-P", "-m", "modelyard.runner")
    owner = ("--fd", str(channel.fileno()), "--parent", str(os.getpid()))
    whose = ("--name", manifest.name, "--version", manifest.version)
    signed = ["--signed"] if equipment.is_signed else []
    return subprocess.Popen(
        [*command, *owner, *whose, *signed, str(folder)],
        pass_fds=[channel.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        env=equipment.variables,
    )


def _as_text(line: bytes) -> list[str]:
    """Return a runner's output line as text for people; log records are formatted."""
    mark = RECORD_MARK.encode()
    record = decode_record(line.removeprefix(mark)) if line.startswith(mark) else None
    if record is None:
        return [line.decode(errors="backslashreplace").rstrip()]
    return [*record.message.splitlines(), *record.trace.splitlines()]


def _first_word(channel: socket.socket, timeout_s: float) -> Ready | str | None:
    """Return what a runner says once it has loaded, why it cannot, or None if it ended before."""
    channel.settimeout(timeout_s)
    try:
        message = _next_message(channel)
    except TimeoutError:
        return f"took longer than load_timeout_s = {timeout_s:g} under [limits]"
    if isinstance(message, LoadFailed):
        return message.reason
    return message if isinstance(message, Ready) else None


def _answers_alike(channel: socket.socket, example: bytes) -> bool | None:
    """Return whether two answers to the example are equal; None if one is missing."""
    outcomes = []
    for _ in range(2):
        try:
            for piece in encode_batch(Batch([memoryview(example)])):
                channel.sendall(piece)
            message = _next_message(channel)
        except OSError:  # it took too long, or its process has ended
            return None
        if not isinstance(message, Answers):
            return None
        outcomes += message.outcomes
    return outcomes[0] == outcomes[1]


def _next_message(channel: socket.socket) -> Ready | LoadFailed | Answers | None:
    """Return what a runner says next, or None if it has ended. What its model says of itself
    meanwhile is left out.

    Raises:
        TimeoutError: It took too long.
    """
    while header := _receive(channel, FRAME_HEADER_BYTES):
        message = to_pool.decode(_receive(channel, int.from_bytes(header, "big")))
        if isinstance(message, Ready | LoadFailed | Answers):
            return message
    return None


def _receive(channel: socket.socket, size: int) -> bytes:
    """Return ``size`` bytes; none if the other side has closed."""
    pieces, left = [], size
    while left and (piece := channel.recv(left)):
        pieces.append(piece)
        left -= len(piece)
    return b"" if left else b"".join(pieces)
