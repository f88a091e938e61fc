"""One HTTP connection: what a client sees, request after request."""

from __future__ import annotations

import logging

import pytest

from modelyard.gateway.keep_alive import KEEP_ALIVE_S
from modelyard.gateway.reader import MOST_AHEAD_BYTES
from modelyard.gateway.stall import STALLED_S
from tests.unit.asking import settle
from tests.unit.http import BODY_TIMEOUT_S, HEADER_TIMEOUT_S, ORIGIN, Gateway
from tests.unit.wire import QUESTION, Wire, chunked, question, request


async def test_a_prediction_is_answered_with_its_id_and_the_use_of_the_cache() -> None:
    gateway = Gateway(is_cached=True)
    client = gateway.connect()
    first = await client.ask(request(QUESTION, "X-Request-Id: mine"))
    second = await client.ask(request(QUESTION, "cache-control: no-cache"))
    third = await client.ask(request())
    assert first.json == {"model_name": "iris", "model_version": "1", "prediction": [1]}
    assert first.headers["x-request-id"] == "mine"
    assert [first.headers["x-cache"], second.headers["x-cache"]] == ["miss", "bypass"]
    assert (third.status, third.headers["x-cache"]) == (200, "hit")
    assert not client.is_cut
    assert gateway.metrics.codes == {"ok": 3}


async def test_requests_that_are_sent_at_once_are_answered_in_order() -> None:
    gateway = Gateway(is_echoing=False)
    client = gateway.connect()
    await client.send(b"".join(request(question(number)) for number in range(3)))
    for number in range(3):
        assert len(gateway.held.calls) == number + 1  # the next one waits for its turn
        await gateway.answer(number, b"[%d]" % number)
    assert [answer.json["prediction"] for answer in client.answers] == [[0], [1], [2]]


async def test_connections_do_not_wait_for_one_another() -> None:
    gateway = Gateway(is_echoing=False)
    first, second = gateway.connect(), gateway.connect()
    await first.send(request(question(1)))
    await second.send(request(question(2)))
    await gateway.answer(1, b"[2]")
    assert (first.answers, [a.json["prediction"] for a in second.answers]) == ([], [[2]])
    assert gateway.connections == 2


async def test_what_is_sent_far_ahead_is_left_unread_until_its_turn_comes() -> None:
    gateway = Gateway(is_echoing=False)
    client = gateway.connect()
    await client.send(request())
    requests = b"".join(request(question(number)) for number in range(1000))
    await client.send(requests, step=20_000)
    assert client.wire.is_paused
    assert len(client.wire.unread) > len(requests) - MOST_AHEAD_BYTES - 20_000
    for number in range(1001):
        await gateway.answer(number, b"[%d]" % number)
    assert [a.json["prediction"] for a in client.answers] == [[n] for n in range(1001)]
    assert not client.wire.is_paused


@pytest.mark.parametrize(
    ("version", "lines", "is_closed"),
    [
        ("1.1", (), False),
        ("1.1", ("connection: close",), True),
        ("1.0", (), True),
        ("1.0", ("connection: keep-alive",), False),
    ],
)
@pytest.mark.parametrize("path", ["/predict", "/page"])
async def test_the_client_says_whether_the_connection_stays(
    version: str, lines: tuple[str, ...], is_closed: bool, path: str
) -> None:
    if path == "/page" and version == "1.0":
        is_closed = True  # uvicorn keeps no connection of HTTP/1.0
    client = Gateway().connect()
    answer = await client.ask(request(QUESTION, *lines, version=version, path=path))
    await settle()
    assert answer.status == 200
    assert client.is_cut == is_closed
    assert (answer.headers.get("connection") == "close") == is_closed


async def test_what_comes_behind_the_last_request_is_not_answered() -> None:
    client = Gateway().connect()
    await client.send(request(QUESTION, "connection: close") + request())
    assert client.codes == ["ok"]
    assert client.is_cut


async def test_every_response_has_the_date_that_the_server_tells() -> None:
    gateway = Gateway()
    gateway.state.default_headers = [(b"date", b"today")]
    client = gateway.connect()
    answers = [await client.ask(request()) for _ in range(2)]
    gateway.state.default_headers = [(b"date", b"tomorrow")]
    answers.append(await client.ask(request()))
    answers.append(await client.ask(request(path="/page")))
    assert [a.headers["date"] for a in answers] == ["today", "today", "tomorrow", "tomorrow"]


async def test_an_offer_of_another_protocol_is_passed_over() -> None:
    lines = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEA")
    client = Gateway().connect()
    assert (await client.ask(request(QUESTION, *lines))).json["prediction"] == [1]
    page = await client.ask(request(b"", *lines, method="GET", path="/page"))
    assert "upgrade" not in page.json["headers"]


async def test_a_client_that_asks_whether_to_go_on_is_told() -> None:
    gateway = Gateway()
    client = gateway.connect()
    whole = request(QUESTION, "expect: 100-continue")
    await client.send(whole[: -len(QUESTION)])
    assert client.wire.received == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert (await client.ask(QUESTION)).status == 200


async def test_a_client_that_asks_whether_to_go_on_is_refused_before_it_does() -> None:
    client = Gateway(max_body_bytes=10).connect()
    await client.send(request(QUESTION, "expect: 100-continue")[: -len(QUESTION)])
    assert client.wire.received.startswith(b"HTTP/1.1 413 ")
    assert client.codes == ["too_large"]


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        (request(method="PUT"), 405, "method_not_allowed"),
        (request(content_type="text/csv"), 415, "wrong_media_type"),
        (request(content_type="image/png"), 415, "wrong_media_type"),
        (request(QUESTION, "content-encoding: br"), 415, "wrong_media_type"),
        (request(b'{"model_name":'), 400, "malformed"),
        (request(b'{"model_name":"iris"}'), 422, "invalid_input"),
        (request(b'{"model_name":"rose","input_data":[1]}'), 404, "model_not_found"),
        (request(path="/models/rose/predict"), 422, "invalid_input"),
        (request(path="/models/iris/versions/2/predict"), 404, "version_not_found"),
        (request(question(1, timeout_s=-1)), 400, "malformed"),
    ],
)
async def test_a_refusal_is_a_problem_and_the_next_request_is_answered(
    asked: bytes, status: int, code: str
) -> None:
    gateway = Gateway()
    client = gateway.connect()
    answer = await client.ask(asked)
    assert (answer.status, answer.code) == (status, code)
    assert answer.headers["x-request-id"] == answer.json["request_id"]
    assert (await client.ask(request())).status == 200
    assert gateway.metrics.codes == {code: 1, "ok": 1}


async def test_a_refusal_says_what_is_allowed_and_when_to_come_again() -> None:
    gateway = Gateway(max_in_flight=0)
    client = gateway.connect()
    assert (await client.ask(request(method="PUT"))).headers["allow"] == "POST"
    overloaded = await client.ask(request())
    assert (overloaded.status, overloaded.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize("asked", [request(QUESTION, f"origin: {ORIGIN}"), request()])
@pytest.mark.parametrize("is_refused", [True, False])
async def test_a_page_of_an_allowed_origin_may_see_answers_and_refusals(
    asked: bytes, is_refused: bool
) -> None:
    asked = asked.replace(b"/json", b"/none") if is_refused else asked
    answer = await Gateway().connect().ask(asked)
    allowed = answer.headers.get("access-control-allow-origin")
    assert allowed == (ORIGIN if b"origin" in asked else None)


async def test_a_browser_that_asks_first_is_answered_by_the_pages() -> None:
    lines = (f"origin: {ORIGIN}", "access-control-request-method: POST")
    answer = await Gateway().connect().ask(request(b"", *lines, method="OPTIONS"))
    assert answer.json["path"] == "/predict"


async def test_a_defect_is_answered_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    gateway = Gateway()
    gateway.dispatch.start = None  # type: ignore[assignment, method-assign]
    answer = await gateway.connect().ask(request(QUESTION, "x-request-id: r1"))
    assert (answer.status, answer.code) == (500, "internal")
    (record,) = (record for record in caplog.records if record.message == "unexpected_error")
    assert record.__dict__["id"] == "r1"


async def test_requests_are_logged_where_that_is_wanted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="modelyard.gateway.predict")
    client = Gateway(is_logged=True).connect()
    await client.ask(request(QUESTION, "x-request-id: r1"))
    await client.ask(request(b"{", "x-request-id: r2"))
    told = [(r.__dict__["id"], r.__dict__["model"], r.__dict__["code"]) for r in caplog.records]
    assert told == [("r1", "iris/1", "ok"), ("r2", "None", "malformed")]


# Time.


async def test_a_connection_that_asks_nothing_is_closed_without_a_word() -> None:
    gateway = Gateway()
    client = gateway.connect()
    await gateway.pass_time(HEADER_TIMEOUT_S - 1)
    assert not client.is_cut
    await gateway.pass_time(1)
    assert (client.is_cut, client.wire.received) == (True, b"")
    assert gateway.connections == 0


@pytest.mark.parametrize("is_first", [True, False])
async def test_headers_that_take_too_long_are_refused(is_first: bool) -> None:
    gateway = Gateway()
    client = gateway.connect()
    if not is_first:
        await client.ask(request())
    await client.send(request()[:20])
    await gateway.pass_time(HEADER_TIMEOUT_S)
    assert client.answers[-1].status == 408
    assert client.answers[-1].headers["connection"] == "close"


@pytest.mark.parametrize("asked", [request(), chunked(QUESTION), request(b"x" * 200_000)])
async def test_a_body_that_takes_too_long_is_refused(asked: bytes) -> None:
    gateway = Gateway()
    client = gateway.connect()
    await client.send(asked[:-10])
    await gateway.pass_time(BODY_TIMEOUT_S - 1)
    assert client.answers == []
    await gateway.pass_time(1)
    assert client.codes == ["too_slow"]
    assert gateway.taken == 0


async def test_a_request_that_is_read_in_time_may_take_its_time() -> None:
    gateway = Gateway(is_echoing=False)
    client = gateway.connect()
    await client.send(request(), step=20)
    await gateway.pass_time(HEADER_TIMEOUT_S + BODY_TIMEOUT_S - 1)
    await gateway.answer()
    assert client.codes == ["ok"]


async def test_an_idle_connection_is_closed_after_a_while() -> None:
    gateway = Gateway()
    client = gateway.connect()
    await gateway.pass_time(5)
    await client.ask(request())
    await gateway.pass_time(KEEP_ALIVE_S - 1)
    assert not client.is_cut
    await gateway.pass_time(1)
    assert client.is_cut


async def test_a_connection_that_is_asked_something_is_not_idle() -> None:
    gateway = Gateway()
    client = gateway.connect()
    await client.ask(request())
    await client.send(request()[:-1])
    await gateway.pass_time(KEEP_ALIVE_S)
    assert client.codes == ["ok", "too_slow"]  # and not closed without a word


# Clients that read slowly, or not at all.


async def test_a_client_that_does_not_read_is_asked_nothing_more_and_cut_off_at_last() -> None:
    gateway = Gateway(is_echoing=False)
    client = gateway.connect()
    await client.send(request(question(1)) + request(question(2)))
    await client.stop_reading()
    await gateway.answer(0)
    assert len(gateway.held.calls) == 1  # the second one is not begun
    await gateway.pass_time(STALLED_S - 1)
    assert not client.is_cut
    await gateway.pass_time(1)
    assert client.wire.is_aborted


async def test_a_client_that_does_not_read_cannot_ask_for_ever_more() -> None:
    gateway = Gateway()
    client = gateway.connect()
    await client.ask(request(question(1)))
    await client.stop_reading()
    for _ in range(3):
        await client.send(request(question(2)))
    assert client.wire.is_paused
    assert client.codes == ["ok"]
    await client.read_again()
    assert client.codes == ["ok"] * 4


async def test_empty_lines_before_a_request_are_passed_over() -> None:
    gateway = Gateway()
    client = gateway.connect()
    await client.ask(request())
    await client.send(b"\r\n")
    await gateway.pass_time(HEADER_TIMEOUT_S)
    assert client.codes == ["ok"]  # nothing was begun, so nothing is late
    await client.send(b"\r\n\r\n" + request())
    assert client.codes == ["ok", "ok"]


async def test_a_client_that_reads_slowly_is_waited_for() -> None:
    gateway = Gateway(is_echoing=False)
    client = gateway.connect()
    await client.send(request(question(1)) + request(question(2)))
    await client.stop_reading(3000)
    await client.stop_reading(3000)  # the loop may say so twice
    await gateway.answer(0)
    for left in (2000, 1000):
        client.wire.unwritten = left
        await gateway.pass_time(STALLED_S)
    assert not client.is_cut
    await client.read_again()
    assert len(gateway.held.calls) == 2
    await gateway.pass_time(STALLED_S - 1)
    await gateway.answer(1)
    assert client.codes == ["ok", "ok"]


class NeverEmpty(Wire):
    """A wire whose client reads nothing of the last answer, so that it never gets closed."""

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_aborted = True


async def test_a_client_that_does_not_read_the_last_answer_is_cut_off_at_last() -> None:
    gateway = Gateway()
    client = gateway.connect(NeverEmpty())
    await client.ask(request(QUESTION, "connection: close"))
    await gateway.pass_time(KEEP_ALIVE_S)
    assert not client.wire.is_aborted
    await gateway.pass_time(STALLED_S)
    assert client.wire.is_aborted
