from __future__ import annotations

import ssl

import pytest

from modelyard.transports.amqp.address import parse_addresses


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("amqp://one", ("one", 5672, "guest", "guest", "/")),
        ("amqp://one:99/", ("one", 99, "guest", "guest", "/")),
        ("amqp://me:p%40ss@one/team", ("one", 5672, "me", "p@ss", "team")),
        ("amqp://one/%2Fteam", ("one", 5672, "guest", "guest", "/team")),
        ("amqp://[::1]:99", ("::1", 99, "guest", "guest", "/")),
    ],
)
def test_a_url_says_where_the_broker_is(url: str, expected: tuple[str, int, str, str, str]) -> None:
    (address,) = parse_addresses(url)
    assert address == (*expected, None)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://me:p%40ss@one/team", "amqp://one:5672/team"),
        ("amqp://one:99/", "amqp://one:99/"),
        ("amqp://one/%2Fteam", "amqp://one:5672/%2Fteam"),
        ("amqps://me:secret@[::1]", "amqps://[::1]:5671/"),
    ],
)
def test_an_address_is_shown_without_user_and_password(url: str, shown: str) -> None:
    (address,) = parse_addresses(url)
    assert f"{address}" == shown


def test_several_brokers_have_commas_between_them() -> None:
    assert [a.host for a in parse_addresses("amqp://one/, amqp://two/")] == ["one", "two"]


def test_amqps_is_encrypted_and_checks_who_answers() -> None:
    (address,) = parse_addresses("amqps://one")
    assert address.port == 5671
    assert address.tls is not None
    assert address.tls.verify_mode is ssl.CERT_REQUIRED
    assert address.tls.check_hostname


@pytest.mark.parametrize(
    "url", ["", "one:5672", "http://one", "amqp://", "amqp://one:port", "amqps://one?verify=0"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"amqp|parameter|[Pp]ort"):
        parse_addresses(url)


def test_a_file_that_is_not_there_is_told() -> None:
    with pytest.raises(OSError, match="No such file"):
        parse_addresses("amqps://one?cafile=/nowhere/ca.pem")
