"""Requests on one connection: one after the other, several at once, in pieces, and cut short."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import itertools
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.conftest import TRICK
from tests.e2e.test_odd_models import write
from tests.support.ledger import answer_of
from tests.support.raw import Answer, address_of, connect, request_bytes
from tests.support.server import Server, wait_until

HEALTH = request_bytes(b"", path="/healthz", method="GET")

_nonces = itertools.count(1)


@pytest.fixture(scope="module")
def served() -> Iterator[Server]:
    """One server for connections that leave it as it is."""
    with Server(TRICK) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
        yield server


def body_of(nonce: int, **trick: object) -> bytes:
    instance = {"nonce": nonce, **trick}
    return json.dumps({"model_name": "trick_model", "input_data": [instance]}).encode()


def is_right(answer: Answer, nonce: int) -> bool:
    return answer.status == 200 and answer.json["prediction"] == [answer_of(nonce)]


async def test_one_after_the_other(served: Server) -> None:
    async with await connect(served.url) as line:
        for nonce in itertools.islice(_nonces, 20):
            assert is_right(await line.ask(request_bytes(body_of(nonce))), nonce)
            assert (await line.ask(HEALTH)).json == {"status": "ok"}


async def test_many_at_once_are_answered_in_order(served: Server) -> None:
    """Whatever they are: predictions slow, quick and compressed, and pages."""
    nonces = list(itertools.islice(_nonces, 12))
    kinds = itertools.cycle(("slow", "quick", "gzip"))
    sent = b""
    for nonce, kind in zip(nonces, kinds, strict=False):
        body = body_of(nonce, act="work", seconds=0.05) if kind == "slow" else body_of(nonce)
        is_gzip = kind == "gzip"
        sent += request_bytes(
            gzip.compress(body, mtime=0) if is_gzip else body,
            *(["content-encoding: gzip"] if is_gzip else []),
        )
        sent += HEALTH
    for size in (len(sent), 1000, 37):
        async with await connect(served.url) as line:
            for start in range(0, len(sent), size):
                line.send(sent[start : start + size])
                await asyncio.sleep(0)
            for nonce in nonces:
                assert is_right(await line.answer(), nonce)
                assert (await line.answer()).json == {"status": "ok"}
            assert await line.rest() == b""


async def test_a_body_in_pieces(served: Server) -> None:
    nonce = next(_nonces)
    request = request_bytes(body_of(nonce))
    async with await connect(served.url) as line:
        for cut in (1, len(request) // 2, len(request) - 1):
            line.send(request[:cut])
            await asyncio.sleep(0.02)
            assert is_right(await line.ask(request[cut:]), nonce)


async def test_who_wants_no_more_is_told_goodbye(served: Server) -> None:
    for header in ("connection: close", "Connection: Close"):
        async with await connect(served.url) as line:
            answer = await line.ask(request_bytes(body_of(1), header))
            assert is_right(answer, 1)
            assert answer.headers["connection"] == "close"
            assert not line.is_open or await line.rest() == b""


async def test_an_old_client_is_answered(served: Server) -> None:
    request = request_bytes(body_of(1)).replace(b"HTTP/1.1", b"HTTP/1.0")
    async with await connect(served.url) as line:
        assert is_right(await line.ask(request), 1)


async def test_the_same_headers_with_another_length_are_another_request(served: Server) -> None:
    short, long = request_bytes(body_of(1)), request_bytes(body_of(12345))
    async with await connect(served.url) as line:
        for _ in range(3):
            assert is_right(await line.ask(short), 1)
            assert is_right(await line.ask(long), 12345)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (["content-length: 10", "content-length: 10"], 400),
        (["content-length: 10", "transfer-encoding: chunked"], 400),
        (["content-length: +10"], 400),
        (["content-length: 0"], 400),
        (["content-length: 99999999999999999999"], 400),
        (["content-length: 99999999"], 413),
    ],
)
async def test_lengths_that_cannot_be(served: Server, headers: list[str], status: int) -> None:
    async with await connect(served.url) as line:
        for _ in range(3):
            assert is_right(await line.ask(request_bytes(body_of(1))), 1)
        assert (await line.ask(request_bytes(b"{}", *headers))).status == status


async def test_a_client_that_leaves_in_the_middle_disturbs_nobody(served: Server) -> None:
    request = request_bytes(body_of(1, act="work", seconds=0.2))
    for part in (request[:10], request[:-5], request):
        async with await connect(served.url) as line:
            line.send(part)
            await asyncio.sleep(0.02)
    wait_until(lambda: served.metric("modelyard_in_flight") == 0, what="nothing under way")
    async with await connect(served.url) as line:
        assert is_right(await line.ask(request_bytes(body_of(7))), 7)


async def test_a_stopping_server_answers_what_it_has_and_says_goodbye() -> None:
    with Server(TRICK) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
        async with await connect(server.url) as busy, await connect(server.url) as idle:
            for line in (busy, idle):
                assert is_right(await line.ask(request_bytes(body_of(1))), 1)
            busy.send(request_bytes(body_of(2, act="work", seconds=0.5)))
            wait_until(lambda: server.metric("modelyard_in_flight") == 1, what="the request")
            server.process.terminate()
            answer = await busy.answer()
            assert is_right(answer, 2)
            assert answer.headers["connection"] == "close"
            with contextlib.suppress(ConnectionError):  # it may have been closed by now
                assert await idle.rest() == b""
        assert server.process.wait(60) == 0


async def test_a_server_that_must_stop_refuses_what_it_cannot_finish() -> None:
    with Server(TRICK, settings={"MODELYARD_DRAIN_S": "1"}) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
        async with await connect(server.url) as line:
            line.send(request_bytes(body_of(2, act="hang")))
            wait_until(lambda: server.metric("modelyard_in_flight") == 1, what="the request")
            server.process.terminate()
            answer = await line.answer()
            assert (answer.status, answer.json["code"]) == (503, "shutting_down")
            assert answer.headers["connection"] == "close"
        assert server.process.wait(60) == 0
        assert "Traceback" not in server.output


async def test_bodies_together_have_a_limit() -> None:
    """Clients that each stay within the limit of one body cannot fill the memory together."""
    limit = str(1024 * 1024)
    with Server(TRICK, settings={"MODELYARD_MAX_BODIES_BYTES": limit}) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
        large = request_bytes(body_of(7, diary="") + b" " * 700_000)

        def taken() -> float:
            return server.metric("modelyard_body_bytes")

        for _ in range(3):
            async with await connect(server.url) as slow, await connect(server.url) as other:
                slow.send(large[:-1])
                wait_until(lambda: taken() > 0, what="the slow one's room")
                refused = await other.ask(large)
                assert (refused.status, refused.json["code"]) == (503, "overloaded")
                assert refused.headers["connection"] == "close"
                assert is_right(await slow.ask(large[-1:]), 7)
            async with await connect(server.url) as gone:
                gone.send(large[:-1])
                wait_until(lambda: taken() > 0, what="the room of one who leaves")
            wait_until(lambda: taken() == 0, what="the room to be given back")
        async with await connect(server.url) as last:
            assert is_right(await last.ask(large), 7)


TALKER = (
    "from modelyard import Model\n\n"
    "class Served(Model):\n"
    "    def predict(self, instances: list[int]) -> list[str]:\n"
    "        return ['x' * size for size in instances]\n"
)


async def test_a_small_input_in_a_large_body_does_not_keep_it(
    served: Server, tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    body = body_of(8, act="wait", diary=str(diary)) + b" " * (7 << 20)
    request = request_bytes(gzip.compress(body), "content-encoding: gzip")
    before = psutil.Process(served.process.pid).memory_info().rss
    async with contextlib.AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(await connect(served.url)) for _ in range(20)]
        for line in lines:
            line.send(request)
        wait_until(lambda: served.metric("modelyard_in_flight") == 20, what="all of them")
        # All bodies are 140 MiB; each of its threads may hold one that is freed.
        assert psutil.Process(served.process.pid).memory_info().rss - before < 100 << 20
        await asyncio.to_thread(Path(f"{diary}.go").touch)
        for line in lines:
            assert is_right(await line.answer(), 8)


def test_an_answer_has_a_limit(tmp_path: Path) -> None:
    with Server(write(tmp_path / "talker", TALKER)) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
        assert len(server.predict("talker", [4 << 20]).json()["prediction"][0]) == 4 << 20
        problem = server.predict("talker", [4 << 20, 5 << 20])
        assert (problem.status_code, problem.json()["code"]) == (502, "model_failed")
        assert "send fewer instances per request" in problem.json()["detail"]


async def test_a_body_is_never_taken_for_a_request(served: Server) -> None:
    """Also when its request is refused before it has come, and it looks like one."""
    known = request_bytes(body_of(1))
    page = request_bytes(b"", f"content-length: {len(known)}", path="/healthz", method="GET")
    wrong = request_bytes(b"", f"content-length: {len(known)}", "content-type: text/plain")
    async with await connect(served.url) as line:
        for _ in range(3):
            assert is_right(await line.ask(known), 1)
        line.send(page)
        await asyncio.sleep(0.05)
        assert (await line.ask(known)).json == {"status": "ok"}
        assert (await line.ask(HEALTH)).json == {"status": "ok"}
    async with await connect(served.url) as line:
        assert is_right(await line.ask(known), 1)
        refused = await line.ask(wrong)
        assert (refused.status, refused.headers["connection"]) == (415, "close")
        line.send(known)
        assert await line.rest() == b""


async def test_a_known_request_behind_half_of_another_is_part_of_it(served: Server) -> None:
    known = request_bytes(body_of(1))
    async with await connect(served.url) as line:
        assert is_right(await line.ask(known), 1)
        line.send(request_bytes(body_of(2)) + b"P")
        assert is_right(await line.answer(), 2)
        answer = await line.ask(known)  # "PPOST" is no method
        assert (answer.status, answer.json["code"]) == (400, "malformed")


async def test_what_is_due_comes_before_a_complaint(served: Server) -> None:
    for body, behind in itertools.product(
        (body_of(3), body_of(3, act="work", seconds=0.1)), (b"", HEALTH, HEALTH * 2)
    ):
        async with await connect(served.url) as line:
            line.send(request_bytes(body) + behind + b"garbage\r\n\r\n")
            assert is_right(await line.answer(), 3)
            for _ in range(behind.count(HEALTH)):
                assert (await line.answer()).json == {"status": "ok"}
            assert not (await line.rest()).count(b" 200 ")


UPGRADE = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABk")


async def test_a_client_that_offers_another_protocol_is_answered_in_this_one(
    served: Server,
) -> None:
    """As Java's own client does, and curl with --http2."""
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body_of(4)), body_of(4))
    async with await connect(served.url) as line:
        for _ in range(2):
            assert is_right(await line.ask(request_bytes(body_of(1), *UPGRADE)), 1)
            request = request_bytes(body_of(2), *UPGRADE)
            line.send(request[:-10])
            await asyncio.sleep(0.02)
            line.send(request[-10:] + request_bytes(body_of(3)))
            assert is_right(await line.answer(), 2)
            assert is_right(await line.answer(), 3)
            line.send(request_bytes(b"", *UPGRADE, "transfer-encoding: chunked") + chunked)
            assert is_right(await line.answer(), 4)
            page = request_bytes(b"", *UPGRADE, path="/healthz", method="GET")
            assert (await line.ask(page)).json == {"status": "ok"}
        line.send(request_bytes(body_of(5), *UPGRADE) * 100)
        for _ in range(100):
            assert is_right(await line.answer(), 5)
        assert await line.rest() == b""


async def test_no_tunnel_is_opened(served: Server) -> None:
    async with await connect(served.url) as line:
        answer = await line.ask(b"CONNECT /predict HTTP/1.1\r\nhost: x\r\n\r\n")
        assert answer.status == 405


async def test_what_follows_a_chunked_body_is_no_header(served: Server) -> None:
    chunked = b"%x\r\n%b\r\n0\r\n" % (len(body_of(4)), body_of(4))
    head = request_bytes(b"", "transfer-encoding: chunked")
    async with await connect(served.url) as line:
        line.send(request_bytes(body_of(3)) * 100 + head)  # all of them are read at once
        for _ in range(100):
            assert is_right(await line.answer(), 3)
        assert is_right(await line.ask(chunked + b"\r\n"), 4)
        for trailer in (b"content-encoding: br", b"content-type: text/plain", b"expect: x"):
            assert is_right(await line.ask(head + chunked + trailer + b"\r\n\r\n"), 4)


@pytest.mark.parametrize("body_bytes", [1, 1 << 20])
@pytest.mark.parametrize("endless", [b"a: b\r\n", b"0" * 16, b"x"], ids=["lines", "zeros", "value"])
async def test_what_surrounds_a_chunked_body_has_a_limit(
    served: Server, endless: bytes, body_bytes: int
) -> None:
    before = psutil.Process(served.process.pid).memory_info().rss
    begin = {b"0" * 16: b"", b"x": b"0\r\nx: "}.get(endless, b"0\r\n")
    async with await connect(served.url) as line:
        chunk = b"%x\r\n%b\r\n" % (body_bytes, b"{" * body_bytes)
        line.send(request_bytes(b"", "transfer-encoding: chunked") + chunk + begin)
        with contextlib.suppress(ConnectionError):
            for _ in range(64):
                line.send(endless * ((1 << 19) // len(endless)))
                await line.drain()
        with contextlib.suppress(ConnectionError):  # it may be cut before the answer is read
            assert (await line.answer()).status in (400, 431)
        assert not line.is_open
    assert psutil.Process(served.process.pid).memory_info().rss - before < 32 << 20


async def test_a_bad_request_does_not_take_the_place_of_the_one_before(served: Server) -> None:
    slow = request_bytes(body_of(5, act="work", seconds=0.2), "expect: 100-continue")
    async with await connect(served.url) as line:
        line.send(slow)
        assert (await line.interim()).startswith(b"HTTP/1.1 100 ")
        line.send(request_bytes(b"", "transfer-encoding: chunked") + b"zz\r\n")
        assert is_right(await line.answer(), 5)
        assert not (await line.rest()).count(b" 200 ")
    assert "Traceback" not in served.output


async def test_a_client_that_never_reads_does_not_keep_the_server(tmp_path: Path) -> None:
    with Server(write(tmp_path / "talker", TALKER), settings={"MODELYARD_DRAIN_S": "1"}) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
        body = json.dumps({"model_name": "talker", "input_data": [7 << 20]}).encode()
        with socket.create_connection(address_of(server.url)) as deaf:
            deaf.sendall(request_bytes(body) * 2)
            wait_until(lambda: server.metric("modelyard_requests_total") >= 1, what="an answer")
            wait_until(lambda: server.metric("modelyard_in_flight") == 0, what="the other")
            assert server.stop() == 0


async def test_headers_that_never_end_are_given_up() -> None:
    with Server(TRICK, settings={"MODELYARD_HEADER_TIMEOUT_S": "0.3"}) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
        async with await connect(server.url) as line:
            line.send(request_bytes(b"{}") + b"P")
            assert (await line.answer()).status == 422
            assert (await line.answer()).status == 408


async def test_requests_that_are_heaped_up_wait_in_the_kernel(served: Server) -> None:
    """Each is read when the one before it has been answered, so they take no memory here."""
    slow = request_bytes(body_of(1, act="work", seconds=0.2))
    before = psutil.Process(served.process.pid).memory_info().rss
    async with await connect(served.url) as line:
        line.send(slow + HEALTH * 5000)
        assert is_right(await line.answer(), 1)
        for _ in range(5000):
            assert (await line.answer()).json == {"status": "ok"}
    assert psutil.Process(served.process.pid).memory_info().rss - before < 8 << 20


async def test_a_client_that_sends_all_before_it_reads_sees_why_it_is_refused(
    served: Server,
) -> None:
    """As Python's urllib does: a connection that is closed at once would be reset."""
    size = 9 << 20

    def ask() -> urllib.error.HTTPError:
        request = urllib.request.Request(
            f"{served.url}/predict", bytes(size), {"content-type": "application/json"}
        )
        with pytest.raises(urllib.error.HTTPError) as raised:
            urllib.request.urlopen(request, timeout=30)
        return raised.value

    for refused in [await asyncio.to_thread(ask) for _ in range(5)]:
        assert refused.code == 413
        assert json.load(refused)["code"] == "too_large"


async def test_clients_that_declare_bodies_and_send_nothing_hold_no_room(served: Server) -> None:
    head = request_bytes(b"", f"content-length: {8 << 20}")
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(40):  # 320 MiB together, of the 256 that may be in progress
            line = await stack.enter_async_context(await connect(served.url))
            line.send(head)
        large = request_bytes(body_of(7, diary="") + b" " * (1 << 20))
        async with await connect(served.url) as line:
            assert is_right(await line.ask(large), 7)


async def test_a_request_behind_a_chunked_body_is_answered_wherever_it_is_cut(
    served: Server,
) -> None:
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body_of(4)), body_of(4))
    sent = request_bytes(b"", "transfer-encoding: chunked") + chunked
    for cut in range(len(sent) - 8, len(sent) + 1):
        async with await connect(served.url) as line:
            line.send(sent[:cut])
            await line.drain()
            await asyncio.sleep(0.01)
            line.send(sent[cut:] + request_bytes(body_of(5)) + HEALTH)
            assert is_right(await line.answer(), 4)
            assert is_right(await line.answer(), 5)
            assert (await line.answer()).json == {"status": "ok"}


async def test_chunked_bodies_together_have_the_same_limit() -> None:
    with Server(TRICK, settings={"MODELYARD_MAX_BODIES_BYTES": str(1 << 20)}) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
        async with await connect(server.url) as slow:
            slow.send(request_bytes(b"", "transfer-encoding: chunked"))
            for _ in range(20):
                slow.send(b"8000\r\n" + b" " * 0x8000 + b"\r\n")
                await slow.drain()
                await asyncio.sleep(0.01)
            wait_until(lambda: server.metric("modelyard_body_bytes") > 500_000, what="the room")


async def test_empty_lines_before_a_request_are_none(served: Server) -> None:
    async with await connect(served.url) as line:
        line.send(b"\r\n" * 4000)
        assert is_right(await line.ask(request_bytes(body_of(6))), 6)
    assert "Traceback" not in served.output


async def test_head_has_no_body(served: Server) -> None:
    async with await connect(served.url) as line:
        line.send(request_bytes(b"", method="HEAD") + HEALTH)
        refused = (await line.interim()).splitlines()
        assert refused[0].startswith(b"HTTP/1.1 405 ")
        assert (await line.answer()).json == {"status": "ok"}
