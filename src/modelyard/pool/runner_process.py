"""One runner process as its pool sees it: writes frames, reads messages, and makes sure it ends.

The other side is ``runner/__main__.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

from modelyard.core.manifest import Manifest
from modelyard.core.messages import (
    FRAME_HEADER_BYTES,
    Answers,
    Batch,
    LoadFailed,
    Ready,
    Stop,
    encode_batch,
    encode_frame,
    to_pool,
)
from modelyard.pool.output import Line, RunnerOutput

_THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_MEMORY_SETTINGS = {
    # Batches of large arrays are allocated and freed all the time. By default the C library may
    # return that memory to the kernel each time, and fault it in again: this cost a third of the
    # throughput.
    "MALLOC_MMAP_THRESHOLD_": str(16 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(32 << 20),
}

EXIT_GRACE_S = 0.5

OnAnswers = Callable[[Answers], None]


class RunnerProcess(asyncio.Protocol):
    """A started runner, made by ``start``; see ``slot.Runner``.

    ``opened`` holds the outcome of loading.
    """

    def __init__(self, on_answers: OnAnswers, on_closed: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[Ready | LoadFailed] = loop.create_future()
        self._on_answers = on_answers
        self._on_closed = on_closed
        self._received = bytearray()
        self._closed = asyncio.Event()
        self._is_gone = False
        self._transport: asyncio.Transport
        self._process: asyncio.subprocess.Process
        self._output: RunnerOutput

    @classmethod
    async def start(
        cls,
        folder: Path,
        manifest: Manifest,
        *,
        on_answers: OnAnswers,
        on_closed: Callable[[], None],
        on_line: Callable[[Line], None],
    ) -> RunnerProcess:
        """Start a runner for the model in ``folder``. Returns before the model is loaded.

        ``on_closed`` is called when nothing can be sent any more, as the process ends.

        Raises:
            OSError: The process cannot be started.
        """
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self = cls(on_answers, on_closed)
            reading, writing = os.pipe()
            self._output = RunnerOutput(reading, on_line)
            try:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *(
                        "-P",
                        "-m",
                        "modelyard.runner",
                    ),  # -P: working directory not on the path
                    *("--fd", str(theirs.fileno()), "--parent", str(os.getpid())),
                    *("--name", manifest.name, "--version", manifest.version),
                    str(folder),
                    pass_fds=[theirs.fileno()],
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=writing,
                    stderr=writing,
                    start_new_session=True,  # Ctrl-C reaches only us; kill reaches its children
                    env=_environment(manifest),
                )
            except BaseException:
                self._output.close()
                raise
            finally:
                os.close(writing)
            channel = ours.dup()
            try:
                channel.setblocking(False)
                await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=channel)
            except BaseException:
                channel.close()
                self.kill()
                await self._process.wait()
                self._output.close()
                raise
        return self

    def read_output(self) -> None:
        """Read the output so far: a runner prints before it answers."""
        self._output.drain()

    def last_lines(self) -> list[str]:
        """Return the last lines that were printed or logged."""
        return self._output.last_lines()

    def send(self, message: Batch | Stop) -> None:
        """Write a frame; does not wait."""
        if isinstance(message, Batch):
            self._transport.writelines(encode_batch(message))
        else:
            self._transport.write(encode_frame(message))

    def kill(self) -> None:
        """Kill the process and its children."""
        if self._is_gone:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def wait(self) -> int:
        """Wait until the process has ended and its messages are read; return the exit code."""
        exited = asyncio.ensure_future(self._process.wait())
        closed = asyncio.ensure_future(self._closed.wait())
        try:
            await asyncio.wait([exited, closed], return_when=asyncio.FIRST_COMPLETED)
            # The socket closes a moment before the exit: wait for it, to get the exit code.
            await asyncio.wait([exited], timeout=EXIT_GRACE_S)
            self.kill()  # it closed the socket but did not exit, or left children behind
            code = await exited
            self._is_gone = True  # from here on its pid may be reused
            # Its messages may still be unread; a detached child may hold the socket open.
            await asyncio.wait([closed], timeout=EXIT_GRACE_S)
        finally:
            exited.cancel()
            closed.cancel()
            self._transport.abort()
            self._output.close()
        if not self.opened.done():
            self.opened.cancel()
        return code

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport (called by the loop)."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Split the data into messages (called by the loop)."""
        received = self._received
        received += data
        while len(received) >= FRAME_HEADER_BYTES:
            end = FRAME_HEADER_BYTES + int.from_bytes(received[:FRAME_HEADER_BYTES], "big")
            if len(received) < end:
                return
            message = to_pool.decode(memoryview(received)[FRAME_HEADER_BYTES:end])
            del received[:end]
            if isinstance(message, Answers):
                self._on_answers(message)
            elif not self.opened.done():
                self.opened.set_result(message)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that nothing more will come (called by the loop)."""
        self._closed.set()
        if not self.opened.done():
            self.opened.cancel()
        self._on_closed()


def _environment(manifest: Manifest) -> dict[str, str]:
    """Return the environment: numeric libraries get as many threads as ``[resources] cpu`` says,
    unless that is set already.

    By default they start one thread per core in every runner, and the runners compete for cores.
    """
    threads = dict.fromkeys(_THREAD_SETTINGS, str(manifest.resources.threads))
    return threads | _MEMORY_SETTINGS | dict(os.environ)
