"""Load at a constant rate, whatever the answers do: what users do who know nothing of each other.

A request is due at its time and its latency counts from then, also if it could not be sent at once,
so that a stall is seen by all who come meanwhile (no coordinated omission). A client waits for
``patience_s`` and then goes away with its connection. ``sent_late_p99_ms`` shows whether the
generator itself was the limit.
"""

from __future__ import annotations

import asyncio
import resource
import statistics
from collections.abc import Callable, Mapping
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import httptools
import uvloop

REFUSALS = (429, 503, 504)


class Outcome(NamedTuple):
    """What became of the requests. Latencies in ms from when each was due."""

    offered: int
    seconds: float
    in_time: int
    in_time_p99_ms: float
    refused: int
    refused_p99_ms: float
    late: int
    wrong: int
    sent_late_p99_ms: float


class Request(NamedTuple):
    """What is sent, and whether an answer's body is right."""

    path: str
    body: bytes
    headers: Mapping[str, str]
    is_right: Callable[[bytes], bool]


def run_open_loop(
    url: str, request: Request, *, rate: float, seconds: float, patience_s: float
) -> Outcome:
    """Send ``request`` ``rate`` times a second for ``seconds``."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return uvloop.run(_Generator(url, request, rate, seconds, patience_s).run())


class _Generator:
    """The clock, the idle connections and the tally."""

    def __init__(
        self, url: str, request: Request, rate: float, seconds: float, patience_s: float
    ) -> None:
        address = urlsplit(url)
        self.host, self.port = str(address.hostname), int(address.port or 80)
        lines = [f"POST {request.path} HTTP/1.1", f"Host: {self.host}:{self.port}"]
        lines += [f"{name}: {text}" for name, text in request.headers.items()]
        lines += [f"Content-Length: {len(request.body)}", "", ""]
        self.content = "\r\n".join(lines).encode() + request.body
        self.is_right = request.is_right
        self.rate, self.seconds, self.patience_s = rate, seconds, patience_s
        self.idle: list[_Connection] = []
        self.in_time: list[float] = []
        self.refused: list[float] = []
        self.sent_late: list[float] = []
        self.late = self.wrong = 0
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self) -> Outcome:
        loop = asyncio.get_running_loop()
        began, count = loop.time(), round(self.rate * self.seconds)
        sent = 0
        while sent < count:
            while sent < count and began + sent / self.rate <= loop.time():
                self._send(began + sent / self.rate)
                sent += 1
            await asyncio.sleep(max(0.0, began + sent / self.rate - loop.time()))
        await self._settled(loop.time() + self.patience_s + 0.1)
        for connection in self.idle:
            connection.transport.abort()
        return Outcome(
            offered=count,
            seconds=self.seconds,
            in_time=len(self.in_time),
            in_time_p99_ms=_p99_ms(self.in_time),
            refused=len(self.refused),
            refused_p99_ms=_p99_ms(self.refused),
            late=self.late + count - self._done(),
            wrong=self.wrong,
            sent_late_p99_ms=_p99_ms(self.sent_late),
        )

    async def _settled(self, deadline: float) -> None:
        """Wait for the answers that are still to come, and for no patience to be left."""
        loop = asyncio.get_running_loop()
        # An event would cost every answer something.
        while self._done() < round(self.rate * self.seconds) and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    def _done(self) -> int:
        return len(self.in_time) + len(self.refused) + self.late + self.wrong

    def _send(self, due: float) -> None:
        while self.idle:
            connection = self.idle.pop()
            if not connection.transport.is_closing():
                connection.send(due)
                return
        task = asyncio.ensure_future(self._open_and_send(due))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _open_and_send(self, due: float) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(due + self.patience_s):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self), self.host, self.port
                )
        except TimeoutError:
            self.late += 1
        except OSError:
            self.wrong += 1
        else:
            connection.send(due)


class _Connection(asyncio.Protocol):
    """One client at a time: sends, reads the answer, is idle again; or gives up."""

    def __init__(self, generator: _Generator) -> None:
        self._generator = generator
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._body = bytearray()
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own is not one by type

    def send(self, due: float) -> None:
        generator = self._generator
        generator.sent_late.append(self._loop.time() - due)
        self._due = due
        self._body.clear()
        self._timer = self._loop.call_at(due + generator.patience_s, self._give_up)
        self.transport.write(generator.content)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._end_badly()

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._timer is None:
            return
        self._timer.cancel()
        self._timer = None
        generator, took = self._generator, self._loop.time() - self._due
        status = self._parser.get_status_code()
        if took > generator.patience_s:  # the timer was about to say so
            generator.late += 1
        elif status == 200 and generator.is_right(bytes(self._body)):
            generator.in_time.append(took)
        elif status in REFUSALS:
            generator.refused.append(took)
        else:
            generator.wrong += 1
        if self._parser.should_keep_alive():
            generator.idle.append(self)
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_badly()

    def _give_up(self) -> None:
        self._timer = None
        self._generator.late += 1
        self.transport.abort()

    def _end_badly(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._generator.wrong += 1
            self.transport.abort()


def _p99_ms(latencies_s: list[float]) -> float:
    if len(latencies_s) < 2:
        return 1000 * sum(latencies_s)
    return 1000 * statistics.quantiles(latencies_s, n=100, method="inclusive")[98]
