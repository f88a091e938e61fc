"""The pool's end of a runner: the process is played by the test, over a real pair of sockets."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.core.measured import Measure, Series
from modelyard.core.messages import (
    FRAME_HEADER_BYTES,
    LARGE_BYTES,
    Answers,
    Batch,
    LoadFailed,
    Measured,
    Progress,
    Ready,
    Reply,
    Said,
    Shared,
    Stop,
    encode_frame,
    to_runner,
)
from modelyard.equipment.equipper import Equipment
from modelyard.pool.output import Line
from modelyard.pool.runner_process import RunnerProcess
from modelyard.pool.shared_memory import HALF_BYTES, STEP_BYTES, SharedMemory
from modelyard.runner.shared_batches import SharedBatches
from tests.unit.pooling import manifest

READY = Ready("sha256:0", b"{}", b"{}", b"[1]", 0.001)
PID = 2**22 + 1  # more than any process has


class Process:
    """A process that the test plays."""

    pid = PID

    def __init__(self, arguments: tuple[str, ...], options: dict[str, Any]) -> None:
        self.arguments = arguments
        self.environment: dict[str, str] = options["env"]
        channel, memory = options["pass_fds"]
        self.channel = socket.socket(fileno=os.dup(channel))
        self.memory = os.dup(memory)
        self.shared = SharedBatches(self.memory)
        self.came_by: list[type] = []
        self.output = os.dup(options["stdout"])
        self.exited: asyncio.Future[int] = asyncio.Future()

    async def wait(self) -> int:
        return await asyncio.shield(self.exited)

    def say(self, message: Ready | LoadFailed | Answers) -> None:
        self.channel.sendall(encode_frame(message))

    def read(self) -> Batch | Stop:
        """Read as a runner whose model takes arrays: what it gets is valid until it answers."""
        size = int.from_bytes(self.channel.recv(FRAME_HEADER_BYTES, socket.MSG_WAITALL), "big")
        message = to_runner.decode(self.channel.recv(size, socket.MSG_WAITALL))
        self.came_by.append(type(message))
        return self.shared.read(message, is_copied=False) if type(message) is Shared else message

    def end(self, code: int) -> None:
        self.channel.close()
        if self.output >= 0:
            os.close(self.output)
            os.close(self.memory)
            self.output = -1
        if not self.exited.done():
            self.exited.set_result(code)


class Started:
    """A runner that was started, and what it told."""

    def __init__(self) -> None:
        self.answers: list[Reply] = []
        self.closed = asyncio.Event()
        self.given_back = asyncio.Event()
        self.lines: list[Line] = []
        self.killed: list[tuple[int, int]] = []
        self.process: Process
        self.runner: RunnerProcess

    async def start(self) -> None:
        model = manifest()
        self.runner = await RunnerProcess.start(
            Path("models/iris"),
            model,
            equipment=Equipment(sys.executable, {"A": "b"}, self.given_back.set),
            shows_errors=False,
            on_reply=self.answers.append,
            on_closed=self.closed.set,
            on_line=self.lines.append,
            on_said=lambda _: None,
        )


@pytest.fixture
async def started(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Started]:
    found = Started()

    async def launch(*arguments: str, **options: Any) -> Process:
        found.process = Process(arguments, options)
        return found.process

    def kill(pid: int, number: int) -> None:
        found.killed.append((pid, number))
        found.process.end(-number)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", launch)
    monkeypatch.setattr(os, "killpg", kill)
    await found.start()
    yield found
    found.process.end(0)
    await found.runner.wait()


async def test_a_runner_is_told_its_model_and_gets_what_it_is_equipped_with(
    started: Started,
) -> None:
    arguments = started.process.arguments
    assert arguments[0] == sys.executable
    assert arguments[-1] == "models/iris"
    assert arguments[-5:-1] == ("--name", "iris", "--version", "1")
    assert started.process.environment == {"A": "b"}
    assert not started.given_back.is_set()
    started.process.end(0)
    await started.runner.wait()
    assert started.given_back.is_set()


async def test_what_is_sent_arrives_and_what_is_answered_comes_back(started: Started) -> None:
    started.process.say(READY)
    assert await started.runner.opened == READY
    batch = Batch([memoryview(b"[1]"), memoryview(b"[2]")], ["json", "msgpack"], [1.0, 2.0])
    started.runner.send(batch)
    assert started.process.read() == batch
    started.process.say(Answers([b"a", b"b"], 0.1, [2]))
    started.runner.send(Stop())
    assert started.process.read() == Stop()
    started.process.end(0)
    assert await started.runner.wait() == 0
    assert started.answers == [Answers([b"a", b"b"], 0.1, [2])]
    assert started.closed.is_set()
    assert started.killed == [(PID, signal.SIGKILL)]  # what it may have left behind


async def test_large_batches_arrive_two_at_a_time_and_huge_ones_too(started: Started) -> None:
    sizes = [LARGE_BYTES, HALF_BYTES // 2, HALF_BYTES, 1, HALF_BYTES - 100, LARGE_BYTES, 2]
    batches = [
        Batch([memoryview(bytes([n]) * size), memoryview(b"")]) for n, size in enumerate(sizes)
    ]
    ahead: Batch | Stop | None = None
    for batch in batches:
        started.runner.send(batch)
        running, ahead = ahead, await asyncio.to_thread(started.process.read)
        assert ahead == batch
        if running is not None:  # it is whole until the one behind the next comes
            assert running == batches[batches.index(batch) - 1]
    ways = [Shared, Shared, Batch, Batch, Shared, Shared, Batch]
    assert started.process.came_by == ways


def is_mapped() -> bool:
    """Whether this process has memory that it shares with a runner."""
    return "memfd:modelyard" in Path("/proc/self/maps").read_text(encoding="utf-8")


async def test_no_memory_is_taken_for_small_batches_nor_kept_after_the_end(
    started: Started,
) -> None:
    def memory_bytes() -> int:
        return 512 * os.fstat(started.process.memory).st_blocks

    started.runner.send(Batch([memoryview(b"[1]")]))
    assert memory_bytes() == 0
    started.runner.send(Batch([memoryview(bytes(LARGE_BYTES))]))
    assert 0 < memory_bytes() <= 2 * STEP_BYTES
    started.process.end(0)
    await started.runner.wait()
    assert is_mapped() is False


async def test_what_it_prints_is_told_before_its_end_is(started: Started) -> None:
    os.write(started.process.output, b"one\ntwo\n")
    started.runner.read_output()
    assert [line.text for line in started.lines] == ["one", "two"]
    os.write(started.process.output, b"last words")
    started.process.end(1)
    assert await started.runner.wait() == 1
    assert started.runner.last_lines() == ["one", "two", "last words"]
    assert started.lines[-1].text == "last words"


async def test_a_runner_that_ends_while_it_loads_cancels_the_load(started: Started) -> None:
    started.process.end(1)
    assert await started.runner.wait() == 1
    assert started.runner.opened.cancelled()


async def test_a_load_that_failed_is_told(started: Started) -> None:
    started.process.say(LoadFailed("no such file"))
    started.process.say(READY)  # the first one counts
    assert await started.runner.opened == LoadFailed("no such file")


async def test_a_runner_that_was_killed_is_not_killed_again_once_it_is_gone(
    started: Started,
) -> None:
    started.runner.kill()
    assert await started.runner.wait() == -signal.SIGKILL
    count = len(started.killed)
    started.runner.kill()  # its id may be another process's by now
    assert len(started.killed) == count


async def test_a_machine_that_has_no_room_for_a_process_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def launch(*_: str, **__: Any) -> Process:
        raise OSError("no room")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", launch)
    with pytest.raises(OSError, match="no room"):
        await Started().start()


async def test_a_runner_to_which_there_is_no_way_is_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def connect(*_: object, **__: object) -> None:
        raise OSError("no way")

    other = Started()

    async def launch(*arguments: str, **options: Any) -> Process:
        other.process = Process(arguments, options)
        return other.process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", launch)
    monkeypatch.setattr(os, "killpg", lambda _, number: other.process.end(-number))
    monkeypatch.setattr(asyncio.get_running_loop(), "create_unix_connection", connect)
    with pytest.raises(OSError, match="no way"):
        await other.start()
    assert other.process.exited.result() == -signal.SIGKILL


messages = st.lists(
    st.one_of(
        st.builds(
            Answers,
            st.lists(st.binary(max_size=20), max_size=3),
            st.floats(0, 10),
            st.lists(st.integers(1, 9), max_size=2),
        ),
        st.just(READY),
        st.just(Progress(0.5, "half")),
        st.just(Measured([Measure("gauge", "size", "", (), [Series((), 1.0)])], {"invalid": 1})),
    ),
    max_size=5,
)


@settings(max_examples=50)
@given(messages, st.data())
def test_messages_are_the_same_however_they_are_cut(
    sent: list[Answers | Ready | Said], data: st.DataObject
) -> None:
    stream = b"".join(encode_frame(message) for message in sent)
    step = data.draw(st.integers(1, len(stream) + 1))

    async def scenario() -> None:
        got: list[Reply] = []
        said: list[Said] = []
        runner = RunnerProcess(got.append, lambda: None, said.append, SharedMemory(None))
        for start in range(0, len(stream), step):
            runner.data_received(stream[start : start + step])
        assert got == [message for message in sent if isinstance(message, Answers)]
        assert said == [message for message in sent if isinstance(message, Said)]
        assert runner.opened.done() == (READY in sent)
        runner.connection_lost(None)
        assert runner.opened.cancelled() == (READY not in sent)

    asyncio.run(scenario())
