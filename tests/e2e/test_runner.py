"""The runner by itself, spoken to as its pool does: a socket for messages, a pipe for its lines."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from modelyard.core.errors import Failure
from modelyard.core.messages import (
    FRAME_HEADER_BYTES,
    Answers,
    Batch,
    LoadFailed,
    Ready,
    Stop,
    encode_frame,
    to_pool,
)
from modelyard.core.records import RECORD_MARK, Record, decode_record
from tests.unit.model_folders import DOUBLES, predicting, write_folder

PATIENCE_S = 60


class Runner:
    """A runner process, and our end of its socket."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(PATIENCE_S)
        with theirs:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    *("-m", "modelyard.runner", "--fd", str(theirs.fileno())),
                    *("--parent", str(os.getpid()), "--name", "m", "--version", "1"),
                    *flags,
                    str(folder),
                ],
                pass_fds=[theirs.fileno()],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )

    def receive(self) -> Ready | LoadFailed | Answers:
        header = self._exactly(FRAME_HEADER_BYTES)
        message: Ready | LoadFailed | Answers
        message = to_pool.decode(self._exactly(int.from_bytes(header, "big")))
        return message

    def answer(self, *inputs: bytes) -> list[bytes | Failure]:
        self.socket.sendall(encode_frame(Batch([memoryview(raw) for raw in inputs])))
        answers = self.receive()
        assert isinstance(answers, Answers)
        return answers.outcomes

    def _exactly(self, size: int) -> bytes:
        received = b""
        while len(received) < size:
            piece = self.socket.recv(size - len(received))
            assert piece, "it closed the socket"
            received += piece
        return received


@contextmanager
def running(folder: Path, *flags: str) -> Iterator[Runner]:
    """Run a runner until the block ends."""
    runner = Runner(folder, *flags)
    try:
        yield runner
    finally:
        runner.socket.close()
        runner.process.communicate(timeout=PATIENCE_S)


def records_in(output: bytes) -> list[Record]:
    lines = [line for line in output.split(b"\n") if line.startswith(RECORD_MARK.encode())]
    return [record for line in lines if (record := decode_record(line[1:]))]


def test_it_answers_and_ends_when_told(tmp_path: Path) -> None:
    with running(write_folder(tmp_path / "m", DOUBLES)) as runner:
        assert isinstance(runner.receive(), Ready)
        fine, bad = runner.answer(b"[1]", b"[13]")
        assert fine == b"[2]"
        assert isinstance(bad, Failure)
        assert "unlucky" not in bad.detail
        runner.socket.sendall(encode_frame(Stop()))
        output, _ = runner.process.communicate(timeout=PATIENCE_S)
        assert runner.process.returncode == 0
    (record,) = records_in(output)
    assert record.message == "model_failed: ValueError: unlucky (src/model.py:9)"
    assert record.inputs == [1]
    assert record.trace.endswith("ValueError: unlucky")


def test_it_shows_what_a_model_raises_if_told_so(tmp_path: Path) -> None:
    with running(write_folder(tmp_path / "m", DOUBLES), "--show-errors") as runner:
        assert isinstance(runner.receive(), Ready)
        (bad,) = runner.answer(b"[13]")
        assert isinstance(bad, Failure)
        assert bad.detail == "the model raised ValueError: unlucky (src/model.py:9)"


@pytest.mark.parametrize(
    ("code", "reason", "has_trace"),
    [
        ("print('importing')\n1 / 0\n", "ZeroDivisionError: division by zero", True),
        ("x = 1\n", "src/model.py has no Served", False),
    ],
)
def test_a_load_that_fails_is_told_with_the_traceback_of_the_model_s_own_error(
    tmp_path: Path, code: str, reason: str, *, has_trace: bool
) -> None:
    with running(write_folder(tmp_path / "m", code)) as runner:
        failed = runner.receive()
        output, _ = runner.process.communicate(timeout=PATIENCE_S)
    assert isinstance(failed, LoadFailed)
    assert failed.reason.startswith(reason)
    (record,) = records_in(output)
    assert record.message.startswith(f"the model cannot be served: {reason}")
    assert record.logger == "modelyard.runner"
    assert ("Traceback" in record.trace) == has_trace
    assert (b"importing\n" in output) == has_trace


def test_one_that_crashes_says_where(tmp_path: Path) -> None:
    code = predicting("import ctypes; print('going down'); ctypes.string_at(0)")
    with running(write_folder(tmp_path / "m", code)) as runner:
        assert isinstance(runner.receive(), Ready)
        runner.socket.sendall(encode_frame(Batch([memoryview(b"[1]")])))
        output, _ = runner.process.communicate(timeout=PATIENCE_S)
    before, _, after = output.partition(b"Fatal Python error: Segmentation fault")
    assert before == b"going down\n"
    assert b"src/model.py" in after
