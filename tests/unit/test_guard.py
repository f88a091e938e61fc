"""Callers: what the guard of the pages and the endpoint of predictions let in."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import trustme

from modelyard.access.accounts import Accounts
from modelyard.access.gate import Gate
from modelyard.access.keyring import Key, Keyring
from modelyard.access.keys import digest_of, new_key
from modelyard.access.limits import Limit
from modelyard.gateway import tls as tls_module
from modelyard.gateway.app import refuse_page
from modelyard.gateway.guard import Guard
from modelyard.gateway.rules import rule_of
from modelyard.gateway.tls import LiveContext, Tls, renew
from tests.support.server import wait_until
from tests.unit.http import Gateway
from tests.unit.test_pages import Pages
from tests.unit.wire import question, request

KEY = new_key()


def gate_of(*scopes: str, limits: tuple[Limit, ...] = ()) -> Gate:
    key = Key(id="k", digest=digest_of(KEY), owner="o", scopes=scopes, limits=limits)
    accounts = Accounts(gateways=1, clock=lambda: 0.0, wall_clock=lambda: 0.0)
    return Gate(Keyring([key]), accounts=accounts, wall_clock=lambda: 0.0)


async def status_of(
    method: str, path: str, *scopes: str, key: str | None = KEY, opened: str = ""
) -> int:
    """Ask the pages of a gateway that knows iris and rent."""
    pages = Pages()
    pages.announce("iris")
    pages.announce("rent")
    guard = Guard(
        pages.app,
        gate=gate_of(*scopes),
        open_pages=frozenset(filter(None, [opened])),
        refuse=refuse_page,
    )
    transport = httpx.ASGITransport(guard)
    headers = {} if key is None else {"x-api-key": key}
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        return (await client.request(method, path, headers=headers)).status_code


@pytest.mark.parametrize(
    ("method", "path", "scopes", "status"),
    [
        ("GET", "/models", ["predict:iris"], 200),
        ("GET", "/models/iris", ["predict:iris"], 200),
        ("GET", "/models/rent", ["predict:iris"], 404),
        ("HEAD", "/models/rent", ["predict:iris"], 404),
        ("GET", "/models/rent", ["read"], 200),
        ("GET", "/metrics", ["predict:iris"], 403),
        ("GET", "/metrics", ["read"], 200),
        ("GET", "/docs", ["predict:iris"], 403),
        ("POST", "/v2/repository/models/iris/load", ["predict:iris"], 403),
        ("POST", "/v2/repository/models/rent/load", ["predict:iris"], 404),
        ("POST", "/v2/repository/models/iris/load", ["release:iris"], 501),
        ("GET", "/nothing", ["read"], 404),
        ("GET", "/nothing", ["admin"], 404),
        ("DELETE", "/models/iris", ["read"], 404),
        ("DELETE", "/models/iris", ["admin"], 405),
    ],
)
async def test_a_scope_opens_its_pages(
    method: str, path: str, scopes: list[str], status: int
) -> None:
    assert await status_of(method, path, *scopes) == status


async def test_strangers_see_what_is_open_and_nothing_else() -> None:
    assert await status_of("GET", "/healthz", key=None) == 200
    assert await status_of("GET", "/models", key=None) == 401
    assert await status_of("GET", "/models", key="mdy_wrong") == 401
    assert await status_of("GET", "/models", key=None, opened="models") == 200
    assert await status_of("GET", "/nothing", key=None) == 401


@pytest.mark.parametrize(
    "path", ["//healthz", "/healthz/", "/HEALTHZ", "/models/../metrics", "/healthz;x", "/v2/health"]
)
def test_what_only_looks_like_an_open_path_has_no_open_rule(path: str) -> None:
    rule = rule_of("GET", path)
    assert rule is None or rule.need != "nothing"


async def test_predictions_need_a_key_and_its_scope() -> None:
    for lines, scopes, status in (
        ([], ["predict:*"], 401),
        (["authorization: Bearer nonsense"], ["predict:*"], 401),
        ([f"authorization: Bearer {KEY}"], ["predict:*"], 200),
        ([f"x-api-key: {KEY}", "authorization: Basic YTpi"], ["predict:iris"], 200),
        ([f"x-api-key: {KEY}"], ["read"], 403),
        ([f"x-api-key: {KEY}"], ["predict:rent"], 404),
    ):
        client = Gateway(gate=gate_of(*scopes)).connect()
        for _ in range(2):
            assert (await client.ask(request(question(1), *lines))).status == status
        assert not client.is_cut


async def test_a_body_of_a_stranger_is_not_waited_for() -> None:
    gateway = Gateway(gate=gate_of("admin"))
    client = gateway.connect()
    await client.send(request(b"x" * 1_000_000)[:1000])
    assert client.answers[0].status == 401
    assert gateway.taken == 0


async def test_a_key_that_is_replaced_is_refused_on_a_connection_that_is_known() -> None:
    gate = gate_of("admin")
    client = Gateway(gate=gate).connect()
    asked = request(question(1), f"x-api-key: {KEY}")
    assert (await client.ask(asked)).status == 200
    assert (await client.ask(asked)).status == 200
    gate.replace(Keyring())
    assert (await client.ask(asked)).status == 401


def test_what_is_no_models_name_is_not_kept() -> None:
    gate, credential = gate_of("admin"), f"Bearer {KEY}".encode()
    for model in ("iris", "x" * 100_000):
        principal = gate.check_prediction(credential, "127.0.0.1", model)
    assert principal.may_ask == {"iris"}


async def test_requests_in_flight_are_counted_until_they_are_answered() -> None:
    gateway = Gateway(is_echoing=False, gate=gate_of("admin", limits=(Limit(in_flight=1),)))
    one, other = gateway.connect(), gateway.connect()
    asked = request(question(1), f"x-api-key: {KEY}")
    await one.send(asked)
    assert (await other.ask(asked)).status == 429
    await gateway.answer()
    assert one.answers[0].status == 200
    await one.send(asked)
    await one.leave()
    await other.send(asked)
    await gateway.answer()
    assert [answer.status for answer in other.answers] == [429, 200]
    missing = question(1).replace(b"iris", b"none")
    for _ in range(2):
        assert (await other.ask(request(missing, f"x-api-key: {KEY}"))).status == 404


async def test_a_certificate_is_loaded_again_when_both_files_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tls_module, "CHECK_S", 0)
    authority = trustme.CA()

    def write() -> None:
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_pem.write_to_path(tmp_path / "key")
        issued.cert_chain_pems[0].write_to_path(tmp_path / "cert")

    write()
    authority.cert_pem.write_to_path(tmp_path / "ca")
    tls = Tls(tmp_path / "cert", tmp_path / "key", tmp_path / "ca")
    assert tls.make_context().verify_mode is ssl.CERT_REQUIRED
    context = LiveContext.around(first := tls.make_context())
    renewing = asyncio.create_task(renew(tls, context))

    async def seen(condition: Callable[[], object]) -> None:
        await asyncio.to_thread(wait_until, condition, what="a look at the files")

    def warnings() -> int:
        return caplog.text.count("certificate_not_read")

    await seen(lambda: context.current is not first)
    second = context.current
    (tmp_path / "key").write_text("half a renewal")
    await seen(lambda: warnings() > 1)
    (tmp_path / "key").unlink()
    before = warnings()
    await seen(lambda: warnings() > before + 1)
    assert context.current is second
    write()
    await seen(lambda: context.current is not second)
    renewing.cancel()
