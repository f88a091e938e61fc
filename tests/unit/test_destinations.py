"""Where callbacks may go."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from modelyard.jobs.addresses import Destinations

PUBLIC = ("93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34")
OWN = (
    *("127.0.0.1", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1"),
    *("169.254.169.254", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fd00:ec2::254"),
    *("::ffff:127.0.0.1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "ff02::1", "fec0::1"),
)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_reached_over_tls_alone(address: str) -> None:
    found = Destinations()
    assert found.may_reach(ip_address(address), is_plain=False)
    assert not found.may_reach(ip_address(address), is_plain=True)


@pytest.mark.parametrize("address", OWN)
def test_what_only_a_server_can_reach_is_not(address: str) -> None:
    assert not Destinations(["198.51.100.0/24"]).may_reach(ip_address(address), is_plain=False)


def test_networks_of_the_setting_are_reached_without_tls_too() -> None:
    found = Destinations(["10.0.0.0/8", "fd00::/8"])
    for address in ("10.2.3.4", "::ffff:10.2.3.4", "fd00::1"):
        assert found.may_reach(ip_address(address), is_plain=True)
    assert not found.may_reach(ip_address("127.0.0.1"), is_plain=True)
