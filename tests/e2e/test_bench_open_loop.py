"""The benchmark's client for overload, against a server that does what it is asked."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench.openloop import Request, run_open_loop

ANSWERS = {
    b"200": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"503": b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
    b"500": b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
    b"never": b"",
}


@contextmanager
def answering_what_is_asked() -> Iterator[str]:
    """Serve HTTP that answers each body with what it names."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.read(4096):
            writer.write(ANSWERS[head.rpartition(b"\r\n\r\n")[2]])
        writer.close()

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(answer, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


@pytest.mark.parametrize(
    ("asked", "became"),
    [(b"200", "in_time"), (b"503", "refused"), (b"500", "wrong"), (b"never", "late")],
)
def test_the_open_loop_tells_apart_what_became_of_its_requests(asked: bytes, became: str) -> None:
    patience_s = 0.2 if asked == b"never" else 60
    request = Request("/", asked, {"Content-Type": "text/plain"}, lambda body: body == b"ok")
    with answering_what_is_asked() as url:
        outcome = run_open_loop(url, request, rate=500, seconds=0.1, patience_s=patience_s)
    counts = {name: getattr(outcome, name) for name in ("in_time", "refused", "wrong", "late")}
    assert counts == dict.fromkeys(counts, 0) | {became: outcome.offered}
    assert outcome.offered == 50
