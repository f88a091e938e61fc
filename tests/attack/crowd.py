"""Clients that do a server no good, each with a connection of its own."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import time
from collections import Counter
from collections.abc import AsyncIterator

from tests.support.raw import Line, address_of, request_bytes

OF_AN_ADDRESS = 10_000  # connections: there are ports for some more
AT_ONCE = 200
PAGE = request_bytes(b"", path="/healthz", method="GET")
HEAD = b"POST /predict HTTP/1.1\r\nhost: slow\r\n" + b"x-letter: a\r\n" * 100
FLOODS = {
    "one long header": b"GET / HTTP/1.1\r\nx: " + b"x" * 70_000,
    "many headers": b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 12_000,
    "a long target": b"GET /" + b"x" * 70_000,
}


def allow_files(count: int) -> None:
    """Let this process open so many files.

    Raises:
        ValueError: The system does not allow as many.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


async def connect_from(url: str, number: int) -> Line:
    """Connect from a loopback address of which not too many come."""
    host, port = address_of(url)
    own = f"127.0.0.{2 + number // OF_AN_ADDRESS}"
    return Line(*await asyncio.open_connection(host, port, local_addr=(own, 0)))


@contextlib.asynccontextmanager
async def idle(url: str, count: int) -> AsyncIterator[list[Line]]:
    """Hold connections, each of which has asked once, as long as the block."""
    lines: list[Line] = []
    try:
        for begin in range(0, count, AT_ONCE):
            some = range(begin, min(begin + AT_ONCE, count))
            lines += await asyncio.gather(*(connect_from(url, number) for number in some))
            await asyncio.gather(*(line.ask(PAGE) for line in lines[begin:]))
        yield lines
    finally:
        for line in lines:
            line.close()


async def slow(url: str, count: int, *, pause_s: float) -> Counter[int]:
    """Send heads byte by byte until each connection is answered; gives the statuses."""
    return Counter(await asyncio.gather(*(_slow(url, n, pause_s) for n in range(count))))


async def _slow(url: str, number: int, pause_s: float) -> int:
    async with await connect_from(url, number) as line:
        answer = asyncio.create_task(line.answer())
        for letter in HEAD:
            line.send(bytes([letter]))
            await asyncio.wait([answer], timeout=pause_s)
            if answer.done():
                break
        return (await answer).status


async def floods(url: str, stop: asyncio.Event) -> Counter[str]:
    """Send heads that are too large, one after the other; gives how they were answered."""
    seen: Counter[str] = Counter()
    while not stop.is_set():
        for name, flood in FLOODS.items():
            async with await connect_from(url, 0) as line:
                line.send(flood)
                with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                    seen[f"{name}: {(await line.answer()).status}"] += 1
        await asyncio.sleep(0)
    return seen


async def hasty(url: str, stop: asyncio.Event) -> int:
    """Send large heads byte by byte as fast as it can be done; gives the number of bytes."""
    letters = b"POST /predict HTTP/1.1\r\n" + b"a: b\r\n" * 5_000
    sent = 0
    while not stop.is_set():
        async with await connect_from(url, 0) as line:
            for letter in letters:
                line.send(bytes([letter]))
                sent += 1
                if sent % 20 == 0:
                    await asyncio.sleep(0)
                if stop.is_set():
                    break
    return sent


async def ordinary(url: str, request: bytes, stop: asyncio.Event) -> list[float]:
    """Ask, on a connection that is kept and on new ones; gives how long each answer took.

    Every answer must be one.
    """
    took: list[float] = []
    async with await connect_from(url, 0) as kept:
        while not stop.is_set():
            async with await connect_from(url, 0) as new:
                for line in (kept, new):
                    begin = time.monotonic()
                    answer = await line.ask(request)
                    took.append(time.monotonic() - begin)
                    assert answer.status == 200, answer
            await asyncio.sleep(0.01)
    return took
