"""One runner process as its pool sees it: writes frames, reads messages, and makes sure it ends.

Path of a request: a slot calls ``send``, which writes the batch to the runner's socket. The other
end is ``runner/__main__.py``. Its answers arrive in ``data_received``, which calls
``Slot._on_reply``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import cast

from modelyard.core.manifest import Manifest
from modelyard.core.messages import (
    FRAME_HEADER_BYTES,
    Aside,
    Batch,
    LoadFailed,
    Ready,
    Reply,
    Said,
    ToRunner,
    encode_frame,
    to_pool,
)
from modelyard.equipment.equipper import Equipment
from modelyard.pool.output import Line, RunnerOutput
from modelyard.pool.shared_memory import SharedMemory

EXIT_GRACE_S = 0.5

OnReply = Callable[[Reply], None]
OnSaid = Callable[[Said], None]


class RunnerProcess(asyncio.Protocol):
    """A started runner, made by ``start``; see ``interfaces.Runner``.

    ``opened`` holds the outcome of loading.
    """

    def __init__(
        self,
        on_reply: OnReply,
        on_closed: Callable[[], None],
        on_said: OnSaid,
        memory: SharedMemory,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[Ready | LoadFailed] = loop.create_future()
        self._on_reply = on_reply
        self._on_closed = on_closed
        self._on_said = on_said
        self._received = bytearray()
        self._memory = memory
        self._encode = memory.encode
        self._closed = asyncio.Event()
        self._is_gone = False
        self._give_back: Callable[[], None] = lambda: None
        self._transport: asyncio.Transport
        self._process: asyncio.subprocess.Process
        self._output: RunnerOutput

    @classmethod
    async def start(
        cls,
        folder: Path,
        manifest: Manifest,
        *,
        equipment: Equipment,
        shows_errors: bool,
        on_reply: OnReply,
        on_closed: Callable[[], None],
        on_line: Callable[[Line], None],
        on_said: OnSaid,
    ) -> RunnerProcess:
        """Start a runner for the model in ``folder``. Returns before the model is loaded.

        ``equipment`` is given back once the runner is gone, unless this raises.
        ``on_closed`` is told when nothing can be sent to it any more: it ends, or has ended.

        Raises:
            OSError: The process cannot be started.
        """
        ours, theirs = socket.socketpair()
        with ours, theirs:
            memory = SharedMemory.open()
            passed = [theirs.fileno(), *([] if memory.fd is None else [memory.fd])]
            self = cls(on_reply, on_closed, on_said, memory)
            reading, writing = os.pipe()
            self._output = RunnerOutput(reading, on_line)
            try:
                self._process = await asyncio.create_subprocess_exec(
                    equipment.python,
                    *("-P", "-m", "modelyard.runner"),  # -P: nothing is imported from here
                    *("--fd", *map(str, passed), "--parent", str(os.getpid())),
                    *("--name", manifest.name, "--version", manifest.version),
                    *(["--show-errors"] if shows_errors else []),
                    *(["--signed"] if equipment.is_signed else []),
                    str(folder),
                    pass_fds=passed,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=writing,
                    stderr=writing,
                    start_new_session=True,  # Ctrl-C reaches only us, and a kill its children
                    env=equipment.variables,
                )
            except BaseException:
                self._output.close()
                memory.close()
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
                memory.close()
                raise
        self._give_back = equipment.give_back
        return self

    def read_output(self) -> None:
        """Read the output so far: a runner prints before it answers."""
        self._output.drain()

    def last_lines(self) -> list[str]:
        """Return the last lines that were printed or logged."""
        return self._output.last_lines()

    def send(self, message: ToRunner) -> None:
        """Write a frame; does not wait."""
        if isinstance(message, Batch):
            self._write(self._encode(message))
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
            self._memory.close()
            self._give_back()
        if not self.opened.done():
            self.opened.cancel()
        return code

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport (called by the loop)."""
        self._transport = cast("asyncio.Transport", transport)
        self._write = self._transport.writelines

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
            if not isinstance(message, Aside):
                self._on_reply(message)
            elif isinstance(message, Said):
                self._on_said(message)
            elif isinstance(message, Ready | LoadFailed) and not self.opened.done():
                self.opened.set_result(message)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that nothing more will come (called by the loop)."""
        self._closed.set()
        if not self.opened.done():
            self.opened.cancel()
        self._on_closed()
