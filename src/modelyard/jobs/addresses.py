"""Which addresses callbacks may go to. A caller names the URL, so it must not reach what only this
machine can: its own services, its neighbours, the cloud's metadata.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from urllib.parse import SplitResult, urlsplit

from modelyard.core.errors import InvalidInput

Address = IPv4Address | IPv6Address

_OF_URL = re.compile(r"[!#-;=?-\[\]_a-z~]+")  # RFC 3986
_PORTS = {"http": 80, "https": 443}
_UNICAST = ip_network("2000::/3")  # all that is given out, of version 6
_NAT64 = ip_network("64:ff9b::/96")


class Destinations:
    """Where callbacks may go: to all public addresses, and to some others.

    Args:
        networks: The others, as ``10.0.0.0/8``. Only there plain HTTP will do.

    Raises:
        ValueError: One is no network.
    """

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks: list[IPv4Network | IPv6Network] = [ip_network(one) for one in networks]

    def check(self, url: str) -> SplitResult:
        """Return the parts of a URL, as far as that can be said before its host is looked up.

        Raises:
            InvalidInput: Callbacks cannot go there.
        """
        if _OF_URL.fullmatch(url) is None:
            raise InvalidInput("Job-Callback has characters that a URL writes with %")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise InvalidInput(f"Job-Callback is no URL: {error}") from None
        if parts.scheme not in _PORTS or not host or port == 0:
            raise InvalidInput("Job-Callback has to be https://HOST/…")
        if parts.username is not None or parts.password is not None:
            raise InvalidInput("Job-Callback may not name a user: callbacks are signed")
        if parts.scheme == "http" and not self._networks:
            raise InvalidInput("Job-Callback has to be https")
        address = as_address(host)
        if address is not None and not self.may_reach(address, is_plain=parts.scheme == "http"):
            raise InvalidInput("Job-Callback names an address that this server does not call")
        return parts

    def may_reach(self, address: Address, *, is_plain: bool) -> bool:
        """Return whether callbacks may go to an address. ``is_plain``: without TLS."""
        found = _meant_by(address)
        if any(found in network for network in self._networks):
            return True
        if is_plain or not found.is_global or found.is_multicast:
            return False
        return isinstance(found, IPv4Address) or found in _UNICAST


def host_of(parts: SplitResult) -> tuple[str, int]:
    """Return host and port of a URL that was checked."""
    return parts.hostname or "", parts.port or _PORTS[parts.scheme]


def as_address(host: str) -> Address | None:
    """Return an address; None if ``host`` is a name."""
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _meant_by(address: Address) -> Address:
    """Return the address of version 4 that one of version 6 leads to, if it is one of those."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address
