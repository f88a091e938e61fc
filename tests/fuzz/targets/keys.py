"""Keys in headers: anything but a key is refused, and a typing error makes a key none."""

from __future__ import annotations

from modelyard.access.accounts import Accounts
from modelyard.access.gate import Gate, key_in
from modelyard.access.keyring import Key, Keyring
from modelyard.access.keys import digest_of, is_key
from modelyard.core.errors import Unauthenticated
from tests.fuzz.refusals import check_refusal

KEY = "mdy_0123456789ABCDEFGHIJKLMNOPQRST4PMbyp"
NOW = 1_800_000_000.0


def run(data: bytes) -> None:
    keys = [Key(id="k", digest=digest_of(KEY), owner="a", scopes=("predict:*",))]
    accounts = Accounts(gateways=1, clock=lambda: 0.0, wall_clock=lambda: NOW)
    gate = Gate(Keyring(keys), accounts=accounts, wall_clock=lambda: NOW)
    text = key_in(data)
    assert not is_key(text) or (len(text) == len(KEY) and text.isascii())
    try:
        principal = gate.principal_of(data, "192.0.2.1")
    except Unauthenticated as error:
        check_refusal(error)
        assert text != KEY
    else:
        assert principal.id == "k"
        assert text == KEY
    if data:
        at = data[0] % len(KEY)
        changed = KEY[:at] + chr(data[-1]) + KEY[at + 1 :]
        assert is_key(changed) == (changed == KEY)
