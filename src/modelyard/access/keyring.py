"""A keyring: all keys that are valid now, as one immutable object."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

import msgspec

from modelyard.access.limits import Limit
from modelyard.access.scopes import Scopes, check_scope
from modelyard.core.fingerprint import digest_tenant

if TYPE_CHECKING:
    from modelyard.access.accounts import Account

Network = IPv4Network | IPv6Network


def address_of(host: str) -> IPv4Address | IPv6Address | None:
    """Return an address, an IPv4 one in its own form; None if ``host`` is none."""
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """One key, as its source has it.

    Attributes:
        id: A short name, which is shown and logged.
        digest: See ``keys.digest_of``.
        owner: Whose it is: a team, a service.
        scopes: What it may do: see ``scopes.py``.
        expires: Unix time, in seconds; None for never.
        networks: From where it may be used, as ``10.0.0.0/8``; none for anywhere.
        limits: How much it may ask.
    """

    id: str
    digest: str
    owner: str
    scopes: tuple[str, ...]
    expires: float | None = None
    networks: tuple[str, ...] = ()
    limits: tuple[Limit, ...] = ()


class Principal:
    """A caller that a key stands for.

    Attributes:
        id: Of the key.
        owner: Whose key it is.
        tenant: What stands for the owner in keys of the cache.
        scopes: What the caller may do.
        expires: See ``Key``.
        limits: How much the caller may ask.
        has_conditions: Whether it may be used only until some time, or from some places.
        account: What counts its requests, once it has asked.
        may_ask: Names of models that it has asked, and may ask: so that it is found out once.
    """

    def __init__(self, key: Key) -> None:
        self.id = key.id
        self.owner = key.owner
        self.tenant = digest_tenant(key.owner)
        self.scopes = Scopes(map(check_scope, key.scopes))
        self.expires = key.expires
        self.limits = key.limits
        self.account: Account | None = None
        self.may_ask: set[str] = set()
        self._networks: tuple[Network, ...] = tuple(map(ip_network, key.networks))
        self.has_conditions = key.expires is not None or bool(self._networks)

    def may_come_from(self, host: str) -> bool:
        """Return whether it may be used at this address."""
        if not self._networks:
            return True
        address = address_of(host)
        return address is not None and any(address in network for network in self._networks)


class Keyring:
    """Keys by their digests.

    Attributes:
        keys: The keys.

    Raises:
        ValueError: A scope or network is none.
    """

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self.keys = tuple(keys)
        self._principals = {key.digest: Principal(key) for key in self.keys}

    def __len__(self) -> int:
        return len(self._principals)

    def find(self, digest: str) -> Principal | None:
        """Return whose key has this digest."""
        return self._principals.get(digest)
