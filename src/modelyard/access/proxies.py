"""Proxies that authenticate callers before us: what they say of a caller is believed, and what
anybody else says in the same headers is not.

A connection's address tells whether it is one of them. What a trusted proxy says stands where else
a credential stands (``Vouched``), so that a request is looked up as one with a key is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_network

from modelyard.access.accounts import Accounts
from modelyard.access.gate import MOST_KNOWN, Credential, Gate, Tokens, Vouched
from modelyard.access.keyring import Key, Keyring, Principal, address_of
from modelyard.access.scopes import check_scope, scopes_in
from modelyard.core.clock import Clock

EVERYBODY = "*"  # the word of a rule that holds for all whom a proxy names
PREFIX = "modelyard:"
_FORWARDED = b"x-forwarded-for"

Fields = Iterable[tuple[bytes, bytes]]
"""Names in lower case, and values; a name may be there several times."""


class Proxies:
    """The proxies that are trusted, and what they may say.

    Args:
        networks: Their addresses, as ``10.0.0.0/8``.
        owner_header: In which they name the caller; empty if they name nobody.
        scopes_header: In which they list what the caller is or may; empty for none.
        rules: The scopes that words of that header give. ``*`` is a word of every caller; a word
            that begins with ``modelyard:`` is a scope itself.

    Raises:
        ValueError: A network or scope is none.
    """

    def __init__(
        self,
        networks: Iterable[str],
        *,
        owner_header: str = "",
        scopes_header: str = "",
        rules: Mapping[str, Iterable[str]] | None = None,
    ) -> None:
        self._networks = [ip_network(network) for network in networks]
        self._owner_header = owner_header.lower().encode()
        self._scopes_header = scopes_header.lower().encode()
        self._rules = {
            word: frozenset(map(check_scope, scopes)) for word, scopes in (rules or {}).items()
        }

    def trusts(self, host: str) -> bool:
        """Return whether what comes from this address is believed."""
        address = address_of(host)
        return address is not None and any(address in network for network in self._networks)

    def names_owner(self, fields: Fields) -> bool:
        """Return whether a caller is named, by whomever."""
        return any(name == self._owner_header and value for name, value in fields)

    def vouch(self, fields: Fields, credential: bytes, *, peer: str) -> Credential:
        """Return what tells who asks: of a request that came from ``peer`` with these headers. A
        header of the proxy's that is there twice says nothing: one of them may be the caller's.
        """
        if not self.trusts(peer):
            return credential
        said: dict[bytes, list[bytes]] = {}
        for name, value in fields:
            said.setdefault(name, []).append(value)
        return Vouched(
            credential=credential,
            host=self._client_of(said.get(_FORWARDED, []), peer),
            owner=_single(said, self._owner_header),
            words=_single(said, self._scopes_header),
        )

    def principal_of(self, owner: str, words: str) -> Principal:
        """Return a caller whom a proxy has named."""
        found = words.replace(",", " ").split()
        scopes = scopes_in(found, PREFIX)
        for word in (EVERYBODY, *found):
            scopes |= self._rules.get(word, frozenset())
        # No key has this id: what it may do, and what it has used, is another caller's.
        name, tenant = f"{owner} of a proxy", f"proxy {owner}"
        return Principal(Key(id=name, digest="", owner=tenant, scopes=tuple(scopes)))

    def _client_of(self, forwarded: Iterable[bytes], peer: str) -> str:
        """Return the last address of those that the request passed which is none of the proxies.
        What stands before it was said by whoever has that address.
        """
        host = peer
        hops = [hop for line in forwarded for hop in line.split(b",")]
        for hop in reversed(hops):
            host = _without_port(hop.decode("ascii", "replace").strip())
            if not self.trusts(host):
                break
        return host


class ProxiedGate(Gate):
    """A gate that also knows callers by what proxies say."""

    def __init__(
        self,
        keyring: Keyring,
        proxies: Proxies,
        *,
        accounts: Accounts,
        wall_clock: Clock,
        tokens: Tokens | None = None,
    ) -> None:
        super().__init__(keyring, accounts=accounts, wall_clock=wall_clock, tokens=tokens)
        self.proxies = self._proxies = proxies
        self._owners: dict[tuple[str, str], Principal] = {}

    def principal_of(self, credential: Credential, host: str) -> Principal:
        """See ``Gate``."""
        if not isinstance(credential, Vouched):
            return super().principal_of(credential, host)
        if not credential.owner:
            return super().principal_of(credential.credential, credential.host)
        named = credential.owner, credential.words
        principal = self._owners.get(named)
        if principal is None:
            if len(self._owners) >= MOST_KNOWN:
                self._owners.clear()
            principal = self._owners[named] = self._proxies.principal_of(*named)
        return principal


def _single(said: Mapping[bytes, list[bytes]], name: bytes) -> str:
    values = said.get(name, [])
    return values[0].decode("utf-8", "replace") if len(values) == 1 else ""


def _without_port(hop: str) -> str:
    if hop.startswith("["):  # [2001:db8::1]:80
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop
