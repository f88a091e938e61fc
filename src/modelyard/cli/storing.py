"""``keys`` and ``store``: what is kept in the store, changed by hand."""

from __future__ import annotations

import argparse
import csv
import getpass
import json
import os
import re
import secrets
import sys
import time
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from importlib.util import find_spec
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import msgspec

from modelyard.access.audit import printable
from modelyard.access.keyring import Key
from modelyard.access.keys import digest_of, new_key
from modelyard.access.limits import AMOUNTS, Limit, Used
from modelyard.access.scopes import ScopeError, check_scope
from modelyard.cli.mistakes import UsageError
from modelyard.cli.telling import print_table, tell_moment
from modelyard.core.durations import duration_s
from modelyard.settings import load_settings

if TYPE_CHECKING:
    from modelyard.store.keys import KeyStore, StoredKey
    from modelyard.store.schema import Engine
    from modelyard.store.usage import UsageStore

USAGE_DAYS = 30
_LIBRARIES = ("sqlalchemy", "alembic")
_KEY_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def need_store() -> None:
    """See that the libraries of the store are here."""
    if not all(map(find_spec, _LIBRARIES)):
        raise UsageError(
            "the store needs libraries that are not here: pip install 'modelyard[store]'"
        )


def create(options: argparse.Namespace) -> None:
    """Make a key."""
    try:
        scopes = [check_scope(scope) for scope in options.scope]
        networks = [str(ip_network(network)) for network in options.network]
        limits = _limits(options)
    except (ScopeError, ValueError) as error:
        raise UsageError(str(error)) from error
    expires = None if options.expires is None else _moment(options.expires)
    if expires is not None and expires <= time.time():
        raise UsageError(f"--expires {options.expires}: that is over")
    key_id = options.id or f"{_as_id(options.owner)}-{secrets.token_hex(3)}"
    if _KEY_ID.fullmatch(key_id) is None:
        told = "lower-case letters, digits, '.', '_' and '-'"
        raise UsageError(f"{key_id!r} is not a valid id: {told}")
    if options.toml:
        key = new_key()
        entry = Key(
            id=key_id,
            digest=digest_of(key),
            owner=options.owner,
            scopes=tuple(scopes),
            expires=expires,
            networks=tuple(networks),
            limits=tuple(limits),
        )
        print(_as_toml(entry))
    else:
        key = _open(options, makes=True).create(
            key_id,
            owner=options.owner,
            scopes=scopes,
            expires=expires,
            networks=networks,
            limits=limits,
        )
        print(f"{key_id} of {options.owner}: {', '.join(scopes)}")
    print(f"{'# ' if options.toml else ''}The key, which cannot be shown again: {key}")


def list_keys(options: argparse.Namespace) -> None:
    """List keys."""
    keys = _open(options).list()
    if options.json:
        print(json.dumps([key._asdict() for key in keys], indent=2))
        return
    heads = ("ID", "OWNER", "SCOPES", "BEGINS", "NETWORKS", "LIMITS", "VALID")
    print_table([heads, *map(_row, keys)])


def rotate(options: argparse.Namespace) -> None:
    """Make a new key in place of one."""
    grace_s = duration_s(options.grace)
    if grace_s is None:
        raise UsageError(f"{options.grace!r} is not a valid time; write 30m, 24h or 7d")
    key = _open(options).rotate(options.id, grace_s=grace_s)
    print(f"The old key of {options.id} is valid for {options.grace} more.")
    print(f"The new one, which cannot be shown again: {key}")


def revoke(options: argparse.Namespace) -> None:
    """Revoke a key."""
    _open(options).revoke(options.id)
    print(f"{options.id} is revoked; gateways refuse it within 2 s.")


def usage(options: argparse.Namespace) -> None:
    """Show what callers have used."""
    today = datetime.now(UTC).date()
    since = _date(options.since) if options.since else today - timedelta(days=USAGE_DAYS)
    until = _date(options.until) if options.until else today
    found = _usage(options).read(since.isoformat(), until.isoformat())
    rows = [(one.day, *_used_cells(one.used)) for one in found]
    if options.csv:
        writer = csv.writer(sys.stdout)
        writer.writerows([("day", *Used._fields), *((one.day, *one.used) for one in found)])
    elif rows:
        heads = ("DAY", "OWNER", "KEY", "MODEL", "REQUESTS", "INSTANCES", "MODEL TIME")
        print_table([heads, *rows])
    else:
        print(f"nothing was used from {since} to {until}")


def _used_cells(used: Used) -> tuple[str, ...]:
    counts = f"{used.requests:,}", f"{used.instances:,}", f"{used.model_s:,.1f} s"
    return (used.owner, used.key, used.model, *counts)


def audit(options: argparse.Namespace) -> None:
    """Show the audit."""
    acts = _usage(options).acts(
        model=options.model or "",
        owner=options.owner or "",
        act=options.act or "",
        since=_since(options.since) if options.since else 0.0,
    )
    if options.json:
        print(json.dumps([act._asdict() for act in acts], indent=2))
    else:
        rows = [
            (tell_moment(at), *(printable(cell or "", 256) for cell in told)) for at, *told in acts
        ]
        print_table([("AT", "WHO", "WHAT", "OF", "IS NOW", "WAS", "WHY"), *rows])


def upgrade(options: argparse.Namespace) -> None:
    """Make the schema, or bring it up to date."""
    settings = load_settings(vars(options))
    need_store()
    from modelyard.store import schema

    engine = schema.open_engine(settings.store_url)
    before = schema.revision_of(engine)
    revision = schema.upgrade(engine)
    where = engine.url.render_as_string(hide_password=True)
    print(f"{where}: schema {revision}" + (", as it was" if before == revision else ""))


def backup(options: argparse.Namespace) -> None:
    """Copy SQLite to a file."""
    settings = load_settings(vars(options))
    need_store()
    from modelyard.store import schema

    schema.back_up(schema.open_engine(settings.store_url), options.file)
    print(f"{options.file}: to restore it, stop the servers and put it in the store's place")


def _usage(options: argparse.Namespace) -> UsageStore:
    engine = open_engine(options)
    from modelyard.store.usage import UsageStore

    return UsageStore(engine)


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a valid day; write 2027-01-31") from None


def open_engine(
    options: argparse.Namespace, *, makes: bool = False, is_quiet: bool = False
) -> Engine:
    """Return the store's database; ``makes``: whether SQLite is made if it is not there yet, and
    ``is_quiet``: without a word of that.

    Raises:
        UsageError: Its libraries are missing.
        StoreError: It cannot be used.
    """
    settings = load_settings(vars(options))
    need_store()
    from modelyard.store import schema

    engine = schema.open_engine(settings.store_url)
    if makes and schema.make_if_missing(engine) and not is_quiet:
        print(f"made {engine.url.database}")
    schema.check_revision(engine)
    return engine


def _open(options: argparse.Namespace, *, makes: bool = False) -> KeyStore:
    engine = open_engine(options, makes=makes)
    from modelyard.store.keys import KeyStore

    return KeyStore(engine, actor=user(), wall_clock=time.time)


def user() -> str:
    """Return who types this, for the audit."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a number without a name, as in our images
        return f"user {os.getuid()}"


def _row(key: StoredKey) -> tuple[str, ...]:
    if key.revoked is not None:
        valid = "revoked"
    elif key.expires is None:
        valid = "for ever"
    else:
        valid = "until " + tell_moment(key.expires) if key.expires > time.time() else "expired"
    begins = ", ".join(f"{shown}…" for shown in key.shown)
    networks = ", ".join(key.networks) or "anywhere"
    limits = "; ".join(map(_describe_limit, key.limits)) or "none"
    return (key.id, key.owner, ", ".join(key.scopes), begins, networks, limits, valid)


def _as_id(owner: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", owner.lower()).strip("-")[:40] or "key"


def _moment(text: str) -> float:
    """Return the Unix time that ``90d`` or a date means."""
    seconds = duration_s(text)
    try:
        if seconds is not None:
            return (datetime.now(UTC) + timedelta(seconds=seconds)).timestamp()
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise UsageError(f"{text!r} is not a valid time; write 90d, 12h or 2027-01-31") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _since(text: str) -> float:
    """Return the Unix time that a date means, or so long ago as ``24h``."""
    seconds = duration_s(text)
    if seconds is not None:
        return time.time() - seconds
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a valid time; write 24h, 7d or 2027-01-31") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _as_toml(key: Key) -> str:
    names = ("id", "digest", "owner", "scopes")
    lines = ["[[keys]]", *(f"{name} = {json.dumps(getattr(key, name))}" for name in names)]
    if key.expires is not None:
        lines.append(f"expires = {datetime.fromtimestamp(key.expires, UTC).isoformat()}")
    if key.networks:
        lines.append(f"networks = {json.dumps(key.networks)}")
    for limit in key.limits:
        lines += ["[[keys.limits]]", *(f"{n} = {json.dumps(v)}" for n, v in _said(limit).items())]
    return "\n".join(lines)


def _limits(options: argparse.Namespace) -> list[Limit]:
    """Return the limits that were asked for.

    Raises:
        ValueError: One is none.
    """
    given = {name: getattr(options, name) for name in AMOUNTS}
    limits = []
    if any(value is not None for value in given.values()):
        limits.append(Limit(count=options.count, **given))
    for text in options.limit:
        pairs = dict(pair.partition("=")[::2] for pair in text.split(","))
        try:
            limits.append(msgspec.convert(pairs, Limit, strict=False))
        except msgspec.ValidationError as error:
            raise ValueError(f"--limit {text}: {error}") from error
    return limits


def _said(limit: Limit) -> dict[str, Any]:
    """Return what a limit says."""
    given = msgspec.structs.asdict(limit)
    return {name: value for name, value in given.items() if value is not None}


_SHORT = {
    "rate": "{:g}/s",
    "burst": "{:g} at once",
    "in_flight": "{:g} in flight",
    "per_day": "{:g} a day",
    "per_month": "{:g} a month",
}


def _describe_limit(limit: Mapping[str, Any]) -> str:
    amounts = ", ".join(text.format(limit[name]) for name, text in _SHORT.items() if name in limit)
    named, counted = limit.get("models", "*"), limit.get("count", "requests")
    count = "" if counted == "requests" else f" by {counted}"
    models = "" if named == "*" else f"{named}: "
    return f"{models}{amounts}{count}"
