"""Keys, scopes and the gate."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.access.accounts import Accounts
from modelyard.access.gate import Gate
from modelyard.access.keyring import Key, Keyring
from modelyard.access.keys import digest_of, is_key, new_key
from modelyard.access.scopes import ScopeError, Scopes, check_scope
from modelyard.access.source import FileKeys, SourceError
from modelyard.core.errors import Forbidden, ModelNotFound, Unauthenticated

LETTERS = string.digits + string.ascii_letters


def keyring(key: str, *scopes: str, **more: object) -> Keyring:
    made = {"id": "k1", "digest": digest_of(key), "owner": "team", "scopes": scopes, **more}
    return Keyring([Key(**made)])  # type: ignore[arg-type]


class Now:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


def accounts() -> Accounts:
    return Accounts(gateways=1, clock=Now(), wall_clock=Now())


def test_a_new_key_is_one_and_no_two_are_the_same() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(is_key(key) for key in keys)


@given(st.integers(4, 39), st.sampled_from(LETTERS))
def test_a_typing_error_is_seen(position: int, letter: str) -> None:
    key = new_key()
    changed = key[:position] + letter + key[position + 1 :]
    assert is_key(changed) == (changed == key)


@pytest.mark.parametrize("scope", ["", "predict", "predict:", "read:x", "admin:", "predict:A", "x"])
def test_what_is_no_scope_is_refused(scope: str) -> None:
    with pytest.raises(ScopeError, match="is not a valid scope"):
        check_scope(scope)


@pytest.mark.parametrize(
    ("scopes", "predicts", "releases", "sees"),
    [
        (["admin"], True, True, True),
        (["read"], False, False, True),
        (["predict:iris"], True, False, True),
        (["predict:iris_2"], False, False, False),
        (["predict:ir"], False, False, False),
        (["predict:ir*"], True, False, True),
        (["predict:*s"], True, False, True),
        (["predict:i.is"], False, False, False),
        (["release:iris"], False, True, True),
        (["release:x", "predict:*"], True, False, True),
        ([], False, False, False),
    ],
)
def test_scopes_say_what_may_be_done(
    scopes: list[str], predicts: bool, releases: bool, sees: bool
) -> None:
    found = Scopes(map(check_scope, scopes))
    assert found.may_predict("iris") == predicts
    assert found.may_release("iris") == releases
    assert found.may_see("iris") == sees


@pytest.mark.parametrize("form", [b"%b", b"Bearer %b", b"bearer  %b", b"BEARER %b "])
def test_a_key_is_known_in_each_form(form: bytes) -> None:
    key = new_key()
    gate = Gate(keyring(key, "predict:*"), accounts=accounts(), wall_clock=Now())
    for _ in range(2):
        assert gate.check_prediction(form % key.encode(), "", "iris").owner == "team"


@pytest.mark.parametrize("credential", [b"", b"Bearer", b"Bearer ", b"Basic YTpi", b"\xff\xfe"])
def test_what_is_no_key_is_refused(credential: bytes) -> None:
    gate = Gate(keyring(new_key(), "admin"), accounts=accounts(), wall_clock=Now())
    for bad in (credential, new_key().encode()):
        with pytest.raises(Unauthenticated):
            gate.principal_of(bad, "")


def test_a_model_that_may_not_be_seen_is_not_there() -> None:
    key = new_key()
    gate = Gate(keyring(key, "predict:mine"), accounts=accounts(), wall_clock=Now())
    with pytest.raises(ModelNotFound, match="no model has this name"):
        gate.check_prediction(key.encode(), "", "theirs")
    gate.replace(keyring(key, "predict:mine", "read"))
    with pytest.raises(Forbidden, match="k1 lacks the scope predict:theirs"):
        gate.check_prediction(key.encode(), "", "theirs")


def test_what_was_allowed_is_forgotten_with_the_keyring() -> None:
    key = new_key()
    gate = Gate(keyring(key, "predict:*"), accounts=accounts(), wall_clock=Now())
    gate.check_prediction(key.encode(), "", "iris")
    gate.replace(keyring(key, "read"))
    with pytest.raises(Forbidden):
        gate.check_prediction(key.encode(), "", "iris")
    gate.replace(Keyring())
    with pytest.raises(Unauthenticated):
        gate.check_prediction(key.encode(), "", "iris")


def test_a_key_expires_although_it_is_known() -> None:
    now, key = Now(), new_key()
    gate = Gate(keyring(key, "admin", expires=1010.0), accounts=accounts(), wall_clock=now)
    gate.principal_of(key.encode(), "")
    now.time = 1010.0
    with pytest.raises(Unauthenticated, match="expired"):
        gate.principal_of(key.encode(), "")


@pytest.mark.parametrize(
    ("host", "is_fine"),
    [("10.1.2.3", True), ("11.0.0.1", False), ("2001:db8::1", True), ("", False), ("host", False)],
)
def test_a_key_may_be_bound_to_networks(host: str, is_fine: bool) -> None:
    key = new_key()
    networks = ("10.0.0.0/8", "2001:db8::/32")
    gate = Gate(keyring(key, "admin", networks=networks), accounts=accounts(), wall_clock=Now())
    if is_fine:
        gate.principal_of(key.encode(), host)
        return
    with pytest.raises(Unauthenticated, match="address"):
        gate.principal_of(key.encode(), host)


@pytest.mark.parametrize(
    "text",
    [b"keys", b"\xff", b"[[keys]]\nid = 1", b"x = " + b"9" * 5000, b"keys = " + b"[" * 5000],
    ids=["no TOML", "no text", "no key", "too many digits", "too deep"],
)
def test_a_file_of_keys_that_cannot_be_read_is_named(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "keys.toml"
    path.write_bytes(text)
    with pytest.raises(SourceError, match=r"keys\.toml: "):
        FileKeys(path, has_book=False).read()
