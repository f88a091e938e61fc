"""Chooses where keys come from."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from modelyard.access.accounts import Accounts
from modelyard.access.gate import Gate
from modelyard.access.keyring import Keyring
from modelyard.access.proxies import ProxiedGate, Proxies
from modelyard.access.source import FileKeys, KeySource, SourceError, follow
from modelyard.access.usage import Bookkeeper, OnUsed, UsageBook
from modelyard.compose.keeping import KeptKeys
from modelyard.settings import Settings, SettingsError, parts_of
from modelyard.store.errors import StoreError

if TYPE_CHECKING:
    from modelyard.access.tokens import Tokens
    from modelyard.store.schema import Engine

_KEPT = "keys.json"


class OpenGate(NamedTuple):
    """A gate, and what keeps it up to date.

    Attributes:
        gate: The gate.
        accounts: What callers ask and use.
        book: Where usage is kept; None if there is no store.
        runs: What keeps the gate up to date.
    """

    gate: Gate
    accounts: Accounts
    book: UsageBook | None
    runs: list[Callable[[], Coroutine[None, None, None]]]

    def keeper(self, on_used: OnUsed) -> Bookkeeper:
        """Return what keeps usage and audit. ``on_used`` is told what was used."""
        audit = self.gate.audit
        return Bookkeeper(self.accounts, audit, self.book, on_used=on_used, wall_clock=time.time)


def open_gate(settings: Settings) -> OpenGate | None:
    """Return the gate that the settings ask for; None if everybody may ask.

    Raises:
        SettingsError: The keys cannot be read.
    """
    if settings.auth != "keys":
        if settings.trusted_proxies:
            raise SettingsError("trusted_proxies needs auth = keys")
        return None
    proxies = open_proxies(settings)
    engine = _engine(settings) if settings.keeps_keys_in_store or settings.database_url else None
    try:
        tokens = _tokens(settings, has_book=engine is not None)
        source = _source(settings, engine)
        keyring = None if source is None else source.read()
    except SourceError as error:
        raise SettingsError(f"the keys cannot be read: {error}") from error
    keyring = keyring or Keyring()
    accounts = Accounts(gateways=settings.gateways, clock=time.monotonic, wall_clock=time.time)
    if proxies is None:
        gate = Gate(keyring, accounts=accounts, wall_clock=time.time, tokens=tokens)
    else:
        gate = ProxiedGate(keyring, proxies, accounts=accounts, wall_clock=time.time, tokens=tokens)
    runs: list[Callable[[], Coroutine[None, None, None]]] = []
    if source is not None:
        runs.append(partial(follow, gate, source))
    if tokens is not None:
        runs.append(partial(tokens.follow, gate.forget))
    return OpenGate(gate, accounts, _book(engine), runs)


def open_proxies(settings: Settings) -> Proxies | None:
    """Return the proxies that are trusted; None if there are none.

    Raises:
        SettingsError: A setting of theirs cannot be used.
    """
    named = (settings.proxy_owner_header, settings.proxy_scopes_header)
    if not settings.trusted_proxies:
        if any(named) or settings.proxy_rules:
            raise SettingsError("the settings proxy_… need trusted_proxies")
        return None
    from modelyard.gateway.known import may_differ

    for name in named:
        if may_differ(name):
            raise SettingsError(f"{name} tells requests apart, and cannot tell callers")
    try:
        return Proxies(
            parts_of(settings.trusted_proxies),
            owner_header=settings.proxy_owner_header,
            scopes_header=settings.proxy_scopes_header,
            rules=_scopes_of(settings.proxy_rules),
        )
    except ValueError as error:
        raise SettingsError(f"trusted_proxies, proxy_rules: {error}") from error


def _tokens(settings: Settings, *, has_book: bool) -> Tokens | None:
    if not settings.tokens_file:
        return None
    from modelyard.access.tokens import Tokens

    return Tokens(Path(settings.tokens_file), has_book=has_book)


def _engine(settings: Settings) -> Engine:
    """Return the engine of the store, which may be away."""
    from modelyard.store.schema import check_revision, open_engine

    try:
        engine = open_engine(settings.store_url)
        check_revision(engine, may_be_away=True)
    except StoreError as error:
        raise SettingsError(str(error)) from error
    return engine


def _source(settings: Settings, engine: Engine | None) -> KeySource | None:
    """Return where the keys are; None if there are tokens alone."""
    if settings.keys_file:
        return FileKeys(Path(settings.keys_file), has_book=engine is not None)
    if not settings.keeps_keys_in_store:
        return None
    from modelyard.store.keys import StoreKeys

    assert engine is not None
    store = engine.url.render_as_string(hide_password=True)
    return KeptKeys(StoreKeys(engine), settings.state / _KEPT, store=store)


def _book(engine: Engine | None) -> UsageBook | None:
    if engine is None:
        return None
    from modelyard.store.usage import UsageStore

    return UsageStore(engine)


async def share_limits(gate: OpenGate | None, redis_url: str, *, name: str) -> None:
    """Divide callers' limits with other gateways, until cancelled. ``name``: of this gateway."""
    if gate is None or not redis_url:
        return
    from modelyard.access.shares import Shares
    from modelyard.caches.board import RedisBoard

    board = RedisBoard(redis_url, name=name, wall_clock=time.time)
    try:
        await Shares(gate.accounts, board).run()
    finally:
        await board.close()


def _scopes_of(rules: str) -> dict[str, list[str]]:
    """Return the scopes of the setting ``proxy_rules`` by their words."""
    found: dict[str, list[str]] = {}
    for rule in filter(None, rules.split(",")):
        word, _, scope = rule.strip().partition("=")
        found.setdefault(word, []).append(scope)
    return found
