"""What the HTTP library is given, and what is made of its answers; also whose they are not."""

from __future__ import annotations

import gzip
import socket
from typing import Any

import httpx2
import pytest

from modelyard.client import Client, Overloaded, Retry, Unavailable, UnexpectedAnswer

ANSWER = b'{"model_name":"m","model_version":"1","prediction":[1]}'
JSON = {"content-type": "application/json; charset=utf-8"}
DATE = "Sat, 28 Nov 2026 10:00:00 GMT"
LATER = "Sat, 28 Nov 2026 10:00:07 GMT"


def client_of(*args: Any, url: str = "http://gateway:8000", **options: Any) -> Client:
    """Give a client that gets one response, made with these arguments, to whatever it sends."""
    transport = httpx2.MockTransport(lambda request: httpx2.Response(*args, **options))
    return Client(url, transport=transport, retry=Retry(attempts=1))


def test_a_path_before_the_gateways_own_is_kept() -> None:
    asked = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append((request.method, str(request.url), request.headers["user-agent"]))
        return httpx2.Response(200, headers=JSON, content=ANSWER)

    for url in ("https://host/models/v1", "https://host/models/v1/"):
        assert Client(url, transport=httpx2.MockTransport(answer)).predict("m", [0]) == [1]
    assert asked == [("POST", "https://host/models/v1/predict", "modelyard-client")] * 2


def test_an_answer_may_be_compressed() -> None:
    headers = {**JSON, "content-encoding": "gzip"}
    assert client_of(200, headers=headers, content=gzip.compress(ANSWER)).predict("m", [0]) == [1]


def test_an_answer_that_cannot_be_inflated_is_none() -> None:
    headers = {**JSON, "content-encoding": "gzip"}
    with pytest.raises(Unavailable, match="no answer"):
        client_of(200, headers=headers, stream=httpx2.ByteStream(b"damaged")).predict("m", [0])


@pytest.mark.parametrize("status", [204, 301, 404, 502])
def test_what_is_no_gateway_is_named_as_that(status: int) -> None:
    headers = {"location": "https://elsewhere/", "content-type": "text/html"}
    with pytest.raises(UnexpectedAnswer) as caught:
        client_of(status, headers=headers, content=b"<html>").predict("m", [0])
    assert caught.value.status == status


def test_what_cannot_be_sent_is_an_argument_that_is_wrong() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        client = Client(url, headers={"x": "two\nlines"})
        with client, pytest.raises(ValueError, match="this cannot be sent"):
            client.predict("m", [0])


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": LATER}, None),
        ({"retry-after": LATER, "date": DATE}, 7.0),
        ({"retry-after": DATE, "date": LATER}, 0.0),
    ],
)
def test_when_to_come_back_is_said_in_seconds_or_as_a_date(
    headers: dict[str, str], expected: float | None
) -> None:
    body = b'{"code":"overloaded","detail":"full","status":503}'
    with pytest.raises(Overloaded) as caught:
        client_of(503, headers=headers, content=body).predict("m", [0])
    assert caught.value.retry_after_s == expected
