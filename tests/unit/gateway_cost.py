"""What one request costs in the gateway alone, in this process, from socket to socket.

Two measures. Instructions of the interpreter are exact, also on a busy machine, but say nothing of
what C does; what asyncio's own loop executes does not count, for servers run on uvloop. Processor
time is that of the least of many batches, which others on the machine disturb least. Both differ
from Python to Python, so a figure means something as a share of another in the same interpreter.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
import time
from types import FrameType
from typing import Any, NamedTuple

import msgspec
import uvicorn
import uvloop
from uvicorn.server import ServerState

from bench.echo import app as echo
from modelyard.caches.layered import LayeredCache
from modelyard.caches.memory import MemoryCache
from modelyard.core.call import Call
from modelyard.core.messages import Schema
from modelyard.core.v2 import pack
from modelyard.dispatch.catalog import Catalog
from modelyard.dispatch.dispatch import Dispatch
from modelyard.gateway.cors import Cors
from modelyard.gateway.predict import PredictEndpoint
from modelyard.gateway.reader import Limits
from modelyard.gateway.server import make_server
from modelyard.gateway.types import Receive, Scope, Send
from modelyard.telemetry.metrics import Metrics
from tests.unit.asking import announcement

WARM_UP, REQUESTS = 20, 50  # to count
BATCHES, BATCH = 60, 200  # to time
NOT_COUNTED = ("asyncio.", "selectors", "tests.")
DIGITS = "#fifteendigits#"

EQUAL = ""
DIFFERING = (
    f"x-request-id: 9f0{DIGITS}\r\ntraceparent: 00-9f3b0a7d51c284e60{DIGITS}-0{DIGITS}-00\r\n"
)
UNKNOWN = f"x-visit: {DIGITS}\r\n"  # of a header that might mean anything, so it is parsed


class Case(NamedTuple):
    """How the gateway is set, and which headers requests have beside the ordinary ones."""

    is_cached: bool
    headers: str
    is_v2: bool = False


CASES = {
    "asked, equal heads": Case(is_cached=False, headers=EQUAL),
    "asked, differing heads": Case(is_cached=False, headers=DIFFERING),
    "asked, heads to be parsed": Case(is_cached=False, headers=UNKNOWN),
    "cached, equal heads": Case(is_cached=True, headers=EQUAL),
    "cached, differing heads": Case(is_cached=True, headers=DIFFERING),
    "asked as tensors, equal heads": Case(is_cached=False, headers=EQUAL, is_v2=True),
}

BARE = Case(is_cached=False, headers=EQUAL)

SCHEMA = Schema(b"{}", b"{}", b"null", b'{"inputs":[],"outputs":[]}')
TENSORS = pack(b'[{"name":"output","datatype":"INT64","shape":[1],"data":[0]}]')


def instructions_of(case: str) -> float:
    """Count the instructions of one request."""
    return asyncio.run(_count(_gateway(CASES[case]), CASES[case]))


def instructions_with(catalog: Catalog, case: str) -> float:
    """Count those of one request to a gateway that knows more than one model."""
    return asyncio.run(_count(_gateway(CASES[case], catalog), CASES[case]))


def instructions_of_echo() -> float:
    """Count those of the bare ASGI echo, with equal heads."""
    return asyncio.run(_count(_echo(), BARE))


def processor_us_of(case: str) -> float:
    """Time the processor for one request, in microseconds."""
    return uvloop.run(_time(_gateway(CASES[case]), CASES[case]))


def processor_us_of_echo() -> float:
    """Time it for the bare ASGI echo, with equal heads."""
    return uvloop.run(_time(_echo(), BARE))


class _Wire(asyncio.Transport):
    """A client's end: keeps what is written to it, and tells when an answer is whole."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.answered = asyncio.Event()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data
        if self.written.endswith(b"}"):
            self.answered.set()

    def close(self) -> None:
        pass

    def is_closing(self) -> bool:
        return False


class _Instructions:
    """Counts what the interpreter executes within the ``with`` block."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> _Instructions:
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:
        if frame.f_globals["__name__"].startswith(NOT_COUNTED):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        self.count += event == "opcode"
        return self._trace


class _Answering:
    """A transport that answers at once."""

    is_open = True

    def __init__(self, outcome: bytes) -> None:
        self._outcome = outcome

    def send(self, call: Call) -> None:
        call.settle(self._outcome)


async def _no_pages(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("no page is asked for")


def _echo() -> uvicorn.Config:
    return uvicorn.Config(echo, http="httptools", ws="none", lifespan="off", log_config=None)


def _gateway(case: Case, catalog: Catalog | None = None) -> uvicorn.Config:
    """Give the configuration of a gateway before a transport that answers at once."""
    catalog, metrics = catalog or Catalog(), Metrics()
    catalog.announce(msgspec.structs.replace(announcement(), schema=SCHEMA))
    dispatch = Dispatch(
        catalog=catalog,
        transport=_Answering(TENSORS if case.is_v2 else b"[0]"),
        cache=LayeredCache(MemoryCache(max_bytes=1 << 20, clock=time.monotonic), None)
        if case.is_cached
        else None,
        metrics=metrics,
        timeout_cap_s=30,
        clock=time.monotonic,
    )
    endpoint = PredictEndpoint(
        dispatch=dispatch,
        metrics=metrics,
        max_body_bytes=1 << 20,
        max_bodies_bytes=1 << 20,
        is_access_logged=False,
        clock=time.monotonic,
        cors=Cors(""),
    )
    limits = Limits(header_timeout_s=10, body_timeout_s=10, max_body_bytes=1 << 20)
    return make_server(_no_pages, endpoint=endpoint, limits=limits, drain_s=1).config


def _request(number: int, case: Case) -> bytes:
    instance = [5.1, 3.5, 1.4, number % 10]
    if case.is_v2:
        tensor = {"name": "input", "shape": [1, 4], "datatype": "FP64", "data": instance}
        path, body = "/v2/models/iris/infer", json.dumps({"inputs": [tensor], "id": "7"})
    else:
        path, body = "/predict", json.dumps({"model_name": "iris", "input_data": [instance]})
    own = case.headers.replace(DIGITS, f"{number:015d}")
    return (
        f"POST {path} HTTP/1.1\r\nhost: localhost:8000\r\naccept: */*\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n{own}\r\n{body}"
    ).encode()


class _Client:
    """One connection to a server in this process."""

    def __init__(self, config: uvicorn.Config, case: Case) -> None:
        config.load()
        self._case = case
        self._sent = 0
        self._wire = _Wire()
        self._protocol = config.http_protocol_class(  # type: ignore[call-arg]
            config=config, server_state=ServerState(), app_state={}
        )
        self._protocol.connection_made(self._wire)

    def requests(self, count: int) -> list[bytes]:
        """Make the next requests."""
        first, self._sent = self._sent, self._sent + count
        return [_request(number, self._case) for number in range(first, self._sent)]

    async def ask(self, requests: list[bytes]) -> None:
        """Send one after the other, each when the last is answered."""
        wire, protocol = self._wire, self._protocol
        for request in requests:
            wire.written = b""
            wire.answered.clear()
            protocol.data_received(request)
            await wire.answered.wait()
        assert b" 200 OK" in wire.written

    def close(self) -> None:
        self._protocol.connection_lost(None)


async def _count(config: uvicorn.Config, case: Case) -> float:
    # No timer of the servers is due: how many would be depends on how long the counting takes.
    asyncio.get_running_loop().time = lambda: 0.0  # type: ignore[method-assign]
    client = _Client(config, case)
    await client.ask(client.requests(WARM_UP))
    requests = client.requests(REQUESTS)
    with _Instructions() as counted:
        await client.ask(requests)
    client.close()
    return counted.count / REQUESTS


async def _time(config: uvicorn.Config, case: Case) -> float:
    client, least_s = _Client(config, case), math.inf
    for _ in range(BATCHES):
        requests = client.requests(BATCH)
        began = time.thread_time()
        await client.ask(requests)
        least_s = min(least_s, time.thread_time() - began)
    client.close()
    return least_s / BATCH * 1e6
