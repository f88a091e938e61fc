"""Pages of other origins: the same decision on both ways to an answer."""

from __future__ import annotations

import httpx
import pytest
from starlette.responses import PlainTextResponse

from modelyard.gateway.cors import Cors

A, B = "https://a.example", "http://b.example:8080"


async def ask(cors: Cors, method: str, headers: dict[str, str]) -> httpx.Headers:
    """Give the CORS headers of an answer that goes through ASGI."""
    transport = httpx.ASGITransport(cors.around(PlainTextResponse("x")))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        return (await client.request(method, "/predict", headers=headers)).headers


def parse(lines: bytes) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in lines.decode().split("\r\n") if line)


@pytest.mark.parametrize("origins", ["*", A, f"{A}, {B}/"])
@pytest.mark.parametrize("origin", [None, A, B, "https://c.example"])
async def test_both_ways_say_the_same(origins: str, origin: str | None) -> None:
    cors = Cors(origins)
    headers = {} if origin is None else {"origin": origin}
    asgi = await ask(cors, "POST", headers)
    lines = parse(cors.lines_for(origin.encode() if origin else None))
    name = "access-control-allow-origin"
    assert lines.get(name) == asgi.get(name)
    if name in lines:
        exposed = "access-control-expose-headers"
        own = (
            "Content-Range, Inference-Header-Content-Length, Location, Preference-Applied, "
            "RateLimit, RateLimit-Policy, Retry-After, WWW-Authenticate, X-Cache, X-Request-Id"
        )
        assert lines[exposed] == asgi[exposed] == own
        assert lines.get("vary") == asgi.get("vary")


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [("*", A, "*"), (A, A, A), (f"{A},{B}", B, B), (A, B, None), ("", A, None)],
)
async def test_a_preflight_is_answered(origins: str, origin: str, allowed: str | None) -> None:
    asked = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type,x-request-id,mcp-protocol-version",
    }
    answer = await ask(Cors(origins), "OPTIONS", asked)
    assert answer.get("access-control-allow-origin") == allowed
    if allowed:
        assert answer["access-control-allow-methods"] == "GET, POST, PUT, DELETE"
        assert "mcp-protocol-version" in answer["access-control-allow-headers"]


def test_without_origins_nothing_stands_in_the_way() -> None:
    app = PlainTextResponse("x")
    assert Cors("").around(app) is app
    assert Cors("").lines_for(A.encode()) == b""
