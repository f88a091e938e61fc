"""Tokens of an identity provider (OIDC): JSON Web Tokens, checked with its published keys.

A file in TOML names the issuers that are trusted, and says which claims give which scopes:

    [[issuers]]
    issuer = "https://id.example.com"
    audience = "modelyard"
    jwks = "https://id.example.com/keys"     # or a file
    scopes_claim = "scope"                   # a list, or words, as `modelyard:predict:iris*`
    [[issuers.rules]]
    claim = "groups"
    value = "ml-team"
    scopes = ["predict:*", "read"]

The library is the extra ``modelyard[tokens]``. Signatures are its business; which algorithms are
taken is fixed here, and none of them is symmetric: so no published key can be used to sign.
"""

from __future__ import annotations

import asyncio
import logging
import time
import tomllib
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.error import URLError
from urllib.parse import urlsplit, urlunsplit

import jwt
import msgspec

from modelyard.access.keyring import Key, Principal
from modelyard.access.limits import Limit, check_quotas
from modelyard.access.scopes import check_scope, scopes_in
from modelyard.access.source import SourceError

CHECK_S = 1.0
FETCH_S = 300.0  # how often keys are fetched
SOONEST_S = 10.0  # how soon again, if a token names a key that is not known
FETCH_TIMEOUT_S = 5.0
MOST_BYTES = 1 << 20

log = logging.getLogger(__name__)

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"]


class Rule(msgspec.Struct, forbid_unknown_fields=True):
    """``scopes`` go to tokens whose ``claim`` is ``value``, or a list that has it."""

    claim: str
    value: str
    scopes: list[str]


class Issuer(msgspec.Struct, forbid_unknown_fields=True):
    """Who issues tokens, and what they mean here.

    Attributes:
        issuer: As the claim ``iss`` has it.
        audience: One that the claim ``aud`` must name.
        jwks: Where its keys are: a URL, or a file.
        algorithms: With which it signs.
        leeway_s: By how much its clock may differ from ours.
        owner_claim: Which claim names the tenant.
        scopes_claim: Which claim lists scopes, among those of others; empty for none.
        scopes_prefix: What ours begin with there.
        rules: What other claims give.
        limits: How much each of its owners may ask.
    """

    issuer: str
    audience: str
    jwks: str
    algorithms: tuple[Algorithm, ...] = ("RS256",)
    leeway_s: Annotated[float, msgspec.Meta(ge=0, le=600)] = 30
    owner_claim: str = "sub"
    scopes_claim: str = ""
    scopes_prefix: Annotated[str, msgspec.Meta(min_length=1)] = "modelyard:"
    rules: list[Rule] = []
    limits: list[Limit] = []


class _File(msgspec.Struct, forbid_unknown_fields=True):
    issuers: Annotated[list[Issuer], msgspec.Meta(min_length=1)]


class _Keys:
    """The published keys of one issuer."""

    def __init__(self, issuer: Issuer) -> None:
        self.issuer = issuer
        self.by_id: dict[str | None, jwt.PyJWK] = {}
        self.fetched = 0.0  # when
        self.is_wanted = False  # whether a token has named a key that is not known
        self._text = b""

    def fetch(self) -> bool:
        """Get them; returns whether they have changed. Blocks.

        Raises:
            SourceError: They cannot be had.
        """
        self.fetched, self.is_wanted = time.monotonic(), False
        where = self.issuer.jwks
        try:
            if where.startswith(("http://", "https://")):
                with urllib.request.urlopen(where, timeout=FETCH_TIMEOUT_S) as answer:  # noqa: S310
                    text = answer.read(MOST_BYTES)
            else:
                text = Path(where).read_bytes()
            if text == self._text:
                return False
            found = jwt.PyJWKSet.from_dict(msgspec.json.decode(text, type=dict[str, Any]))
        except (OSError, URLError, ValueError, msgspec.DecodeError, jwt.PyJWTError) as error:
            raise SourceError(f"{_shown(where)}: {error}") from error
        self._text = text
        self.by_id = {key.key_id: key for key in found.keys if key.key_type != "oct"}
        return True


class Tokens:
    """Reads tokens.

    Args:
        path: The file of issuers.
        has_book: Whether usage is kept, which limits of a day or month need.

    Raises:
        SourceError: The file, or an issuer's keys, cannot be read.
    """

    def __init__(self, path: Path, *, has_book: bool) -> None:
        try:
            found = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _File)
            for issuer in found.issuers:
                for rule in issuer.rules:
                    for scope in rule.scopes:
                        check_scope(scope)
                check_quotas(issuer.limits, has_book=has_book)
        except (OSError, ValueError, tomllib.TOMLDecodeError) as error:
            raise SourceError(f"{path}: {error}") from error
        self._keys = {issuer.issuer: _Keys(issuer) for issuer in found.issuers}
        for keys in self._keys.values():
            keys.fetch()

    def find(self, token: str) -> Principal | None:
        """Return whose token it is; None if it is none that is valid here."""
        try:
            issued_by = jwt.decode(token, options={"verify_signature": False}).get("iss")
            keys = self._keys.get(issued_by) if isinstance(issued_by, str) else None
            if keys is None:
                return None
            issuer = keys.issuer
            key_id = jwt.get_unverified_header(token).get("kid")
            key = keys.by_id.get(key_id)
            if key is None:
                keys.is_wanted = True
                return None
            claims = jwt.decode(
                token,
                key=key.key,
                algorithms=list(issuer.algorithms),
                audience=issuer.audience,
                issuer=issuer.issuer,
                leeway=issuer.leeway_s,
                options={"require": ["exp", "iss", "aud"]},
            )
            return _principal(issuer, claims)
        except (jwt.PyJWTError, ValueError, TypeError):
            return None

    async def follow(self, on_change: Callable[[], None]) -> None:
        """Fetch keys again from time to time, and when one is missing, until cancelled."""
        while True:
            await asyncio.sleep(CHECK_S)
            for keys in self._keys.values():
                age_s = time.monotonic() - keys.fetched
                is_file = not keys.issuer.jwks.startswith(("http://", "https://"))
                if not (is_file or age_s > FETCH_S or (keys.is_wanted and age_s > SOONEST_S)):
                    continue
                try:
                    has_changed = await asyncio.to_thread(keys.fetch)
                except SourceError as error:
                    log.warning("issuer_keys_not_read", extra={"why": str(error)})
                    continue
                if has_changed:
                    log.info("issuer_keys_read", extra={"issuer": keys.issuer.issuer})
                    on_change()


def _shown(where: str) -> str:
    """Return a URL without what may be secret in it: a password, or a query."""
    parts = urlsplit(where)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))


def _principal(issuer: Issuer, claims: dict[str, Any]) -> Principal | None:
    owner = claims.get(issuer.owner_claim)
    if not isinstance(owner, str) or not owner:
        return None
    scopes = {scope for rule in issuer.rules if _holds(rule, claims) for scope in rule.scopes}
    if issuer.scopes_claim:
        claim = claims.get(issuer.scopes_claim)
        words = claim.split() if isinstance(claim, str) else claim
        scopes |= scopes_in(words if isinstance(words, list) else [], issuer.scopes_prefix)
    return Principal(
        Key(
            id=f"{owner} of {issuer.issuer}",
            digest="",
            owner=f"{issuer.issuer} {owner}",
            scopes=tuple(scopes),
            expires=float(claims["exp"]) + issuer.leeway_s,
            limits=tuple(issuer.limits),
        )
    )


def _holds(rule: Rule, claims: dict[str, Any]) -> bool:
    found = claims.get(rule.claim)
    return rule.value in found if isinstance(found, list) else found == rule.value
