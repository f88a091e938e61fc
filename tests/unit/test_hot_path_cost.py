"""How many instructions of the interpreter a request costs in the gateway.

Counted and not timed, so it says the same on a busy machine. The yardstick is a bare ASGI echo on
uvicorn, counted in the same interpreter: instructions differ from version to version of Python.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import msgspec
import pytest
import uvicorn
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

REQUESTS = 50
RISE = 1.1  # a greater one is to be explained, and the number below to be raised with it

# Instructions for one request, as a share of the echo's.
SHARES = {
    "asked": 0.79,
    "cached": 0.78,
    "with an id of its own": 0.98,
    "as tensors": 0.92,
}


class Wire(asyncio.Transport):
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


class Instructions:
    """Counts what the interpreter executes within the ``with`` block."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Instructions:
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        self.count += event == "opcode"
        return self._trace


class Answering:
    """A transport that answers at once."""

    is_open = True

    def __init__(self, outcome: bytes = b"[0]") -> None:
        self._outcome = outcome

    def send(self, call: Call) -> None:
        call.settle(self._outcome)


SCHEMA = Schema(b"{}", b"{}", b"null", b'{"inputs":[],"outputs":[]}')
OUTPUT = pack(b'[{"name":"output","datatype":"INT64","shape":[1],"data":[0]}]')


def request_of(number: int, *, headers: str = "") -> bytes:
    body = json.dumps({"model_name": "iris", "input_data": [[5.1, 3.5, 1.4, number % 10]]})
    return (
        "POST /predict HTTP/1.1\r\nhost: localhost:8000\r\naccept: */*\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n{headers}\r\n{body}"
    ).encode()


def tensors_of(number: int, *, headers: str = "") -> bytes:
    tensor = {"name": "input", "shape": [1, 4], "datatype": "FP64", "data": [5.1, 3.5, 1.4, number]}
    body = json.dumps({"inputs": [tensor], "id": "7"})
    return (
        "POST /v2/models/iris/infer HTTP/1.1\r\nhost: localhost:8000\r\naccept: */*\r\n"
        f"content-length: {len(body)}\r\n{headers}\r\n{body}"
    ).encode()


async def no_pages(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("no page is asked for")


def gateway(*, is_cached: bool, outcome: bytes = b"[0]") -> uvicorn.Config:
    """Give the configuration of a gateway before a transport that answers at once."""
    catalog, metrics = Catalog(), Metrics()
    catalog.announce(msgspec.structs.replace(announcement(), schema=SCHEMA))
    dispatch = Dispatch(
        catalog=catalog,
        transport=Answering(outcome),
        cache=LayeredCache(MemoryCache(max_bytes=1 << 20, clock=time.monotonic), None)
        if is_cached
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
    return make_server(no_pages, endpoint=endpoint, limits=limits, drain_s=1).config


async def instructions_of(
    config: uvicorn.Config, *, headers: str = "", write: Callable[..., bytes] = request_of
) -> float:
    """Count what one request costs, once the connection is warm."""
    config.load()
    wire = Wire()
    protocol = config.http_protocol_class(  # type: ignore[call-arg]
        config=config, server_state=ServerState(), app_state={}
    )
    protocol.connection_made(wire)

    async def ask(number: int) -> None:
        wire.written = b""
        wire.answered.clear()
        protocol.data_received(write(number, headers=headers % number if headers else ""))
        await wire.answered.wait()

    for number in range(20):
        await ask(number)
    assert b" 200 OK" in wire.written
    with Instructions() as counted:
        for number in range(REQUESTS):
            await ask(number)
    protocol.connection_lost(None)
    return counted.count / REQUESTS


@pytest.mark.parametrize("case", SHARES)
async def test_a_request_costs_no_more_instructions_than_it_did(case: str) -> None:
    yardstick = uvicorn.Config(echo, http="httptools", ws="none", lifespan="off", log_config=None)
    headers = "x-request-id: mine-%04d\r\n" if case == "with an id of its own" else ""
    if case == "as tensors":
        ours = await instructions_of(gateway(is_cached=False, outcome=OUTPUT), write=tensors_of)
    else:
        ours = await instructions_of(gateway(is_cached=case == "cached"), headers=headers)
    echoes = await instructions_of(yardstick, headers=headers)
    print(f"{case}: {ours:.0f} instructions, the echo {echoes:.0f}: {ours / echoes:.3f}")
    assert ours / echoes <= SHARES[case] * RISE
