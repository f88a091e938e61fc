"""Keeps a payload writer running beside a gateway, and reads what it reports."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Protocol, cast

import msgspec

from modelyard.payloads.config import Config
from modelyard.payloads.frames import Begin, Report, Window, add_frame, take_frames
from modelyard.payloads.log import PayloadLog

TICK_S = 1.0
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.5, 30.0
STEADY_S = 60.0  # one that ran for so long is started again at once
END_S = 6.0  # a writer gives what it has 5 s

OnReport = Callable[[Report], None]

log = logging.getLogger(__name__)

_to_report = msgspec.msgpack.Decoder(Report)


class PayloadMetrics(Protocol):
    """Receives what has become of records."""

    def ended(self, end: str, count: int) -> None:
        """``count`` more requests were ``kept``, or were not, and why."""
        ...

    def compared(self, window: Window) -> None:
        """How a window compares with its reference."""
        ...

    def set_failing(self, is_failing: bool) -> None:
        """Whether nothing can be kept at the moment."""
        ...


class WriterProcess(asyncio.Protocol):
    """A started writer, and the socket to it."""

    def __init__(self, payload_log: PayloadLog, on_report: OnReport) -> None:
        self._log = payload_log
        self._on_report = on_report
        self._received = bytearray()
        self.closed = asyncio.Event()
        self.transport: asyncio.Transport
        self.process: asyncio.subprocess.Process

    @classmethod
    async def start(
        cls, config: Config, payload_log: PayloadLog, on_report: OnReport, *, name: str
    ) -> WriterProcess:
        """Start a writer.

        Raises:
            OSError: It cannot be started.
        """
        ours, theirs = socket.socketpair()
        self = cls(payload_log, on_report)
        with ours, theirs:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-P", "-m", "modelyard.payloads.writer"),  # -P: nothing is imported from here
                *("--fd", str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C reaches only us
            )
            channel = ours.dup()
        channel.setblocking(False)
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=channel)
        begin = bytearray()
        add_frame(begin, Begin(config, name))
        self.transport.write(begin)
        return self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport (called by the loop)."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Read reports (called by the loop)."""
        self._received += data
        for report in take_frames(self._received, _to_report):
            self._on_report(report)

    def pause_writing(self) -> None:
        """Stop handing over (called by the loop)."""
        self._log.set_full(True)

    def resume_writing(self) -> None:
        """Hand over again (called by the loop)."""
        self._log.set_full(False)

    def connection_lost(self, error: Exception | None) -> None:
        """Note that it is gone (called by the loop)."""
        self.closed.set()

    async def end(self) -> None:
        """Let it keep what it has, and end it if that takes too long."""
        if self.transport.can_write_eof():
            self.transport.write_eof()
        try:
            async with asyncio.timeout(END_S):
                await self.closed.wait()  # its last report has been read
                await self.process.wait()
        except TimeoutError:
            log.warning("payload_writer_killed")
        finally:
            self.transport.abort()
            self.kill()

    def kill(self) -> None:
        """Kill it, if it is still there."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)


class PayloadWriter:
    """Starts a writer, and another one when it has died.

    Args:
        config: What it does.
        payload_log: Hands over to it.
        metrics: Receive what has become of records.
        name: Of this gateway, in the names of files.
    """

    def __init__(
        self, config: Config, payload_log: PayloadLog, metrics: PayloadMetrics, *, name: str
    ) -> None:
        self._config, self._log, self._metrics, self._name = config, payload_log, metrics, name
        self._told = Report()  # by the writer that runs
        self._missed = 0  # of those that the log has missed, so many are counted
        self._started = 0  # writers

    async def run(self) -> None:
        """Keep one running until cancelled; then let it keep what it has."""
        loop = asyncio.get_running_loop()
        backoff_s = FIRST_BACKOFF_S
        while True:
            begun = loop.time()
            await self._run_one()
            if loop.time() - begun > STEADY_S:
                backoff_s = FIRST_BACKOFF_S
            await self._pause(backoff_s)
            backoff_s = min(2 * backoff_s, LONGEST_BACKOFF_S)

    async def _run_one(self) -> None:
        self._started += 1
        self._told, handed_before = Report(), self._log.handed
        try:
            name = f"{self._name}.{self._started}"
            writer = await WriterProcess.start(self._config, self._log, self._on_report, name=name)
        except OSError as error:
            log.error("payload_writer_not_started", extra={"error": str(error)})
            return
        self._log.connect(writer.transport)
        try:
            while not writer.closed.is_set():
                await self._pause(TICK_S, writer.closed)
        except asyncio.CancelledError:
            self._log.flush()
            self._log.disconnect()
            await writer.end()
            raise
        finally:
            self._log.disconnect()
            writer.kill()
            await writer.process.wait()
            self._count_missed()
            known = self._told.kept + sum(self._told.dropped.values())
            if lost := self._log.handed - handed_before - known:
                self._metrics.ended("lost", lost)
        log.error("payload_writer_died", extra={"code": writer.process.returncode, "lost": lost})

    async def _pause(self, seconds: float, event: asyncio.Event | None = None) -> None:
        """Wait, and count what was missed meanwhile."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await (event or asyncio.Event()).wait()
        self._count_missed()

    def _count_missed(self) -> None:
        if more := self._log.missed - self._missed:
            self._missed += more
            self._metrics.ended("full", more)

    def _on_report(self, report: Report) -> None:
        before, self._told = self._told, report
        self._metrics.ended("kept", report.kept - before.kept)
        for reason, count in report.dropped.items():
            self._metrics.ended(reason, count - before.dropped.get(reason, 0))
        self._metrics.set_failing(bool(report.trouble))
        for window in report.windows:
            self._metrics.compared(window)
        if report.trouble and not before.trouble:
            log.error("payload_log_failing", extra={"error": report.trouble})
        elif before.trouble and not report.trouble:
            log.warning("payload_log_recovered")
