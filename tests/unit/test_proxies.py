"""What a proxy says of callers: whose word counts, and which words."""

from __future__ import annotations

import pytest

from modelyard.access.accounts import Accounts
from modelyard.access.gate import MOST_KNOWN, Gate, Vouched
from modelyard.access.keyring import Key, Keyring
from modelyard.access.keys import digest_of, new_key
from modelyard.access.proxies import ProxiedGate, Proxies
from modelyard.core.errors import Unauthenticated
from tests.unit.http import Gateway
from tests.unit.wire import QUESTION, request

PEER = "192.0.2.1"  # where the connections of ``Gateway`` come from
KEY = new_key()
NAMED = ("x-user: ada", "x-groups: ml-team")


def gate_of(*networks: str) -> Gate:
    key = Key(
        id="k",
        digest=digest_of(KEY),
        owner="o",
        scopes=("predict:*",),
        networks=("203.0.113.0/24",),
    )
    proxies = Proxies(
        networks,
        owner_header="X-User",
        scopes_header="X-Groups",
        rules={"ml-team": ["predict:iris"], "*": ["read"]},
    )
    accounts = Accounts(gateways=1, clock=lambda: 0.0, wall_clock=lambda: 0.0)
    return ProxiedGate(Keyring([key]), proxies, accounts=accounts, wall_clock=lambda: 0.0)


async def test_who_is_named_by_a_trusted_proxy_is_let_in() -> None:
    client = Gateway(gate=gate_of(PEER)).connect()
    for _ in range(3):  # the second time its lines are known
        assert (await client.ask(request(QUESTION, *NAMED))).status == 200
        assert (await client.ask(request())).status == 401


async def test_who_is_named_by_anybody_else_is_not() -> None:
    client = Gateway(gate=gate_of("198.51.100.0/24")).connect()
    for _ in range(3):
        assert (await client.ask(request(QUESTION, *NAMED))).status == 401


async def test_a_known_head_does_not_stand_for_that_of_another_client() -> None:
    client = Gateway(gate=gate_of(PEER)).connect()
    for _ in range(3):
        for host, status in (("203.0.113.5", 200), ("198.51.100.5", 401)):
            lines = (f"x-api-key: {KEY}", f"x-forwarded-for: {host}")
            assert (await client.ask(request(QUESTION, *lines))).status == status


@pytest.mark.parametrize(
    ("words", "scopes"),
    [
        ("", ("read",)),
        ("ml-team", ("predict:iris", "read")),
        ("staff,ml-team", ("predict:iris", "read")),
        ("modelyard:admin", ("admin", "read")),
        ("modelyard:everything admin", ("read",)),
    ],
)
def test_words_give_scopes(words: str, scopes: tuple[str, ...]) -> None:
    found = gate_of(PEER).principal_of(Vouched(b"", PEER, "ada", words), PEER)
    assert found.scopes.names == scopes
    assert found.owner == "proxy ada"


@pytest.mark.parametrize(
    ("forwarded", "host"),
    [
        ([], PEER),
        ([b"203.0.113.5"], "203.0.113.5"),
        ([b"203.0.113.5, 192.0.2.9"], "203.0.113.5"),
        ([b"203.0.113.5", b"198.51.100.1 "], "198.51.100.1"),
        ([b"192.0.2.7, 192.0.2.9"], "192.0.2.7"),
        ([b"[2001:db8::1]:80"], "2001:db8::1"),
        ([b"2001:db8::1"], "2001:db8::1"),
        ([b"::ffff:203.0.113.5"], "::ffff:203.0.113.5"),
        ([b"203.0.113.5:80"], "203.0.113.5"),
        ([b"203.0.113.5,"], ""),
        ([b"\xff"], "\ufffd"),
    ],
)
def test_the_client_is_the_last_that_is_no_proxy(forwarded: list[bytes], host: str) -> None:
    proxies = gate_of("192.0.2.0/24").proxies
    assert proxies is not None
    found = proxies.vouch([(b"x-forwarded-for", line) for line in forwarded], b"", peer=PEER)
    assert isinstance(found, Vouched)
    assert found.host == host


def test_what_is_remembered_of_callers_is_bounded() -> None:
    gate = gate_of(PEER)
    for number in range(MOST_KNOWN + 2):
        gate.principal_of(Vouched(b"", PEER, f"user {number}", ""), PEER)
    with pytest.raises(Unauthenticated):
        gate.principal_of(Vouched(b"", PEER, "", "admin"), PEER)
