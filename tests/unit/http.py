"""A gateway without a socket: real connections, whose other end is under the control of a test."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from uvicorn.server import ServerState

from modelyard.access.gate import Gate
from modelyard.caches.layered import LayeredCache
from modelyard.caches.memory import MemoryCache
from modelyard.core.names import Target
from modelyard.dispatch.catalog import Catalog
from modelyard.dispatch.dispatch import Dispatch
from modelyard.gateway.connection import HttpConnection
from modelyard.gateway.cors import Cors
from modelyard.gateway.predict import PredictEndpoint
from modelyard.gateway.reader import Limits
from modelyard.gateway.server import Server, make_server
from modelyard.gateway.types import App, Receive, Scope, Send
from tests.unit.asking import CAP_S, Clock, HeldTransport, NotedMetrics, announcement, settle
from tests.unit.wire import Answer, Answers, Wire

HEADER_TIMEOUT_S = 10.0
BODY_TIMEOUT_S = 20.0
MAX_BODY_BYTES = 4 << 20
MAX_BODIES_BYTES = 16 << 20
ORIGIN = "https://shop.example"


class Client:
    """A client with its connection."""

    def __init__(self, gateway: Gateway, wire: Wire) -> None:
        self.wire = wire
        config = gateway.server.config
        connection = config.http_protocol_class(  # type: ignore[call-arg]
            config=config, server_state=gateway.state, app_state={}
        )
        assert isinstance(connection, HttpConnection)
        self.connection = connection
        wire.set_protocol(connection)
        connection.connection_made(wire)

    async def send(self, data: bytes, *, step: int = 0) -> Client:
        """Send ``data``, in pieces of ``step`` bytes, and let happen what can."""
        step = step or max(1, len(data))
        for start in range(0, len(data), step):
            self.wire.deliver(data[start : start + step])
            await settle()
        return self

    async def ask(self, data: bytes) -> Answer:
        """Send a request; give its response, which must come without anybody else's doing."""
        before = len(self.answers)
        await self.send(data)
        await until(lambda: len(self.answers) > before)
        return self.answers[before]

    async def leave(self) -> None:
        """Close the connection, whatever is under way."""
        self.wire.lose()
        await settle()

    async def stop_reading(self, unwritten: int = 100_000) -> None:
        """Take nothing more of what is written."""
        self.wire.unwritten = unwritten
        self.wire.get_protocol().pause_writing()
        await settle()

    async def read_again(self) -> None:
        """Take what was written."""
        self.wire.unwritten = 0
        self.wire.get_protocol().resume_writing()
        await settle()

    @property
    def answers(self) -> list[Answer]:
        """The responses that are here whole; those that only say "go on" are left out."""
        found = Answers().feed(self.wire.received) if self.wire.received else []
        return [answer for answer in found if answer.status >= 200]

    @property
    def codes(self) -> list[str]:
        """How they ended, one by one."""
        return [answer.code for answer in self.answers]

    @property
    def is_cut(self) -> bool:
        """Whether the server has closed the connection."""
        return self.wire.is_closed


@dataclass
class Metrics(NotedMetrics):
    """Counts what the gateway answers."""

    codes: Counter[str] = field(default_factory=Counter)

    def answered(self, target: Target | None, code: str, seconds: float) -> None:
        """See ``GatewayMetrics``."""
        assert seconds >= 0
        self.codes[code] += 1


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with what was asked: a page."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    names = sorted(name.decode() for name, _ in scope["headers"])
    seen = {"path": scope["path"], "body": body.decode("latin-1"), "headers": names}
    text = json.dumps(seen).encode()
    headers = [(b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


class HeldPage:
    """A page that answers when the test says so."""

    def __init__(self) -> None:
        self.asked = self.cancelled = 0
        self.was_left = False
        self.pieces: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked += 1
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while (piece := await self.pieces.get()) is not None:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        await send({"type": "http.response.body", "body": b""})
        self.was_left = (await receive())["type"] == "http.disconnect"


class Threads(ThreadPoolExecutor):
    """In place of threads: does its work at once, or when the test says so.

    Attributes:
        held: What is to be done; None to do it at once.
    """

    def __init__(self) -> None:
        super().__init__(max_workers=1)
        self.held: list[Callable[[], None]] | None = None

    def submit(  # type: ignore[override]
        self, work: Callable[..., object], /, *args: object
    ) -> Future[object]:
        future: Future[object] = Future()

        def run() -> None:
            try:
                future.set_result(work(*args))
            except Exception as error:
                future.set_exception(error)

        if self.held is None:
            run()
        else:
            self.held.append(run)
        return future

    async def work(self) -> None:
        """Do what is held."""
        held, self.held = self.held or [], []
        for run in held:
            run()
        await settle()


class Gateway:
    """A server with its connections, a model named iris, and time that a test lets pass.

    The transport keeps what is asked; ``answers`` makes it answer at once, with the input.
    """

    def __init__(
        self,
        *,
        pages: App = echo,
        is_echoing: bool = True,
        is_cached: bool = False,
        is_logged: bool = False,
        has_endpoint: bool = True,
        max_body_bytes: int = MAX_BODY_BYTES,
        max_bodies_bytes: int = MAX_BODIES_BYTES,
        max_in_flight: int = 1000,
        gate: Gate | None = None,
    ) -> None:
        self.clock = clock = Clock()
        self.threads = Threads()
        loop = asyncio.get_running_loop()
        loop.time = clock  # type: ignore[method-assign]
        loop.set_default_executor(self.threads)
        self.catalog, self.metrics, self.state = Catalog(), Metrics(), ServerState()
        self.catalog.announce(announcement(max_in_flight=max_in_flight))
        self.held = HeldTransport()
        memory = MemoryCache(max_bytes=1 << 20, clock=clock)
        self.dispatch = Dispatch(
            catalog=self.catalog,
            transport=Echoing() if is_echoing else self.held,
            cache=LayeredCache(memory, None) if is_cached else None,
            metrics=self.metrics,
            timeout_cap_s=CAP_S,
            clock=clock,
        )
        self.endpoint = PredictEndpoint(
            dispatch=self.dispatch,
            metrics=self.metrics,
            max_body_bytes=max_body_bytes,
            max_bodies_bytes=max_bodies_bytes,
            is_access_logged=is_logged,
            clock=clock,
            cors=Cors(ORIGIN),
            gate=gate,
        )
        self.server: Server = make_server(
            pages,
            endpoint=self.endpoint if has_endpoint else None,
            limits=Limits(HEADER_TIMEOUT_S, BODY_TIMEOUT_S, max_body_bytes),
            drain_s=1,
        )
        self.server.config.load()
        self.server.server_state = self.state

    def connect(self, wire: Wire | None = None) -> Client:
        """Give a client that has just connected."""
        return Client(self, wire or Wire())

    async def answer(self, number: int = -1, output: bytes = b"[0]") -> None:
        """Answer the request that was sent as number ``number``."""
        self.held.calls[number].settle(output)
        await settle()

    async def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.now += seconds
        await settle()

    @property
    def taken(self) -> int:
        """How much of the budget for bodies is taken."""
        return self.endpoint.budget.taken

    @property
    def connections(self) -> int:
        """How many connections the server knows of."""
        return len(self.state.connections)


class Echoing:
    """A transport that answers each request at once, with its input."""

    is_open = True

    def send(self, call: Any) -> None:
        call.settle(bytes(call.request.input))


async def until(is_so: Callable[[], bool]) -> None:
    """Wait until something holds that needs no time, only turns of the loop."""
    for _ in range(50):
        if is_so():
            return
        await settle()
    raise AssertionError("it did not come")
