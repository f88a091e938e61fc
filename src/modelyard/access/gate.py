"""The gate: who a request comes from, and whether it may ask for a model.

A credential that was seen before costs one look-up. What is remembered is forgotten when the
keyring is replaced, so a key that is revoked stops working with the next request, also on
connections that are kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from modelyard.access.accounts import Account, Accounts
from modelyard.access.audit import Audit
from modelyard.access.keyring import Key, Keyring, Principal
from modelyard.access.keys import digest_of, is_key
from modelyard.core.clock import Clock
from modelyard.core.errors import NO_MODEL, Forbidden, ModelNotFound, Unauthenticated
from modelyard.core.names import is_name

if TYPE_CHECKING:
    from modelyard.access.proxies import Proxies

MOST_KNOWN = 4096  # credentials; only valid ones are remembered
LONGEST_KNOWN_BYTES = 4096  # of each: a token is as long
_BEARER = b"bearer "
_HOW = "send a key: `Authorization: Bearer KEY`, or `X-API-Key: KEY`"


class Tokens(Protocol):
    """Reads tokens of an identity provider."""

    def find(self, token: str) -> Principal | None:
        """Return whose token it is; None if it is none that is valid here."""
        ...


class Vouched(NamedTuple):
    """A caller as a trusted proxy has it; see ``proxies.py``.

    Attributes:
        credential: What the request has, as without a proxy.
        host: The address of the client.
        owner: Whom the proxy has authenticated; empty for nobody.
        words: What it says of this caller's scopes.
    """

    credential: bytes
    host: str
    owner: str
    words: str


Credential = bytes | Vouched
"""The header ``Authorization``, or ``X-API-Key``; empty if there is neither."""


class Gate:
    """Looks callers up in a keyring, which can be replaced.

    Attributes:
        proxies: Who may speak for callers; None if nobody may.

    Args:
        keyring: The keys.
        tokens: Reads what is no key; None if nothing else is taken.
        accounts: What callers ask and use.
        wall_clock: Unix time, in seconds, for what expires.
    """

    proxies: Proxies | None = None

    def __init__(
        self,
        keyring: Keyring,
        *,
        accounts: Accounts,
        wall_clock: Clock,
        tokens: Tokens | None = None,
    ) -> None:
        self._tokens = tokens
        self._accounts = accounts
        self._keyring = keyring
        self._wall_clock = wall_clock
        self.audit = Audit(wall_clock)
        self._known: dict[Credential, Principal] = {}

    @property
    def keys(self) -> tuple[Key, ...]:
        """The keys that are known now; those that have expired too."""
        return self._keyring.keys

    def replace(self, keyring: Keyring) -> None:
        """Use another keyring from now on."""
        self._keyring = keyring
        self.forget()

    def forget(self) -> None:
        """Look everybody up again."""
        self._known = {}

    def principal_of(self, credential: Credential, host: str) -> Principal:
        """Return who sent a credential.

        Args:
            credential: What tells who asks.
            host: The address that it came from.

        Raises:
            Unauthenticated: It is missing, unknown, expired, or was sent from elsewhere.
        """
        principal = self._known.get(credential) or self._admit(credential)
        if principal.expires is not None and principal.expires <= self._wall_clock():
            raise Unauthenticated(f"the key has expired; {_HOW}")
        if not principal.may_come_from(host):
            raise Unauthenticated("the key may not be used from this address")
        return principal

    def is_valid(self, credential: bytes) -> bool:
        """Return whether a credential is known at all, wherever it comes from."""
        try:
            return bool(self._known.get(credential) or self._admit(credential))
        except Unauthenticated:
            return False

    def check_prediction(self, credential: Credential, host: str, model: str) -> Principal:
        """Return who asks for predictions of a model.

        Raises:
            Unauthenticated: See ``principal_of``.
            ModelNotFound: The model may not be known to be there.
            Forbidden: It may, but may not be asked.
        """
        principal = self._known.get(credential)
        if principal is None or principal.has_conditions:
            principal = self.principal_of(credential, host)
        if model not in principal.may_ask:
            if not principal.scopes.may_predict(model):
                raise refusal(principal, model, scope=f"predict:{model}")
            if len(principal.may_ask) < MOST_KNOWN and is_name(model):  # others may be long
                principal.may_ask.add(model)
        return principal

    def open_account(self, principal: Principal) -> Account:
        """Return what counts the requests of a caller, which keeps it."""
        return self._accounts.of(principal)

    def _admit(self, credential: Credential) -> Principal:
        assert isinstance(credential, bytes)  # what proxies say is no business of a keyring
        if not credential:
            raise refusal_of(credential)
        text = key_in(credential)
        principal = None
        if is_key(text):
            principal = self._keyring.find(digest_of(text))
        elif self._tokens is not None:
            principal = self._tokens.find(text)
        if principal is None:
            raise refusal_of(credential)
        if len(credential) <= LONGEST_KNOWN_BYTES:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[credential] = principal
        return principal


def refusal_of(credential: bytes) -> Unauthenticated:
    """Return the error of a credential that is missing or unknown."""
    problem = "the key is not valid" if credential else "this server wants a key"
    return Unauthenticated(f"{problem}; {_HOW}")


def key_in(credential: bytes) -> str:
    """Return the key in a header, which is the whole or follows ``Bearer``."""
    if credential[: len(_BEARER)].lower() == _BEARER:
        credential = credential[len(_BEARER) :].strip()
    return credential.decode("ascii", "replace")


def refusal(principal: Principal, model: str, *, scope: str) -> Forbidden | ModelNotFound:
    """Return the error of a caller who lacks a scope. Of a model that it may not see, it is what is
    said of one that is not there.
    """
    if not principal.scopes.may_see(model):
        return ModelNotFound(NO_MODEL)
    return Forbidden(f"the key {principal.id} lacks the scope {scope}")
