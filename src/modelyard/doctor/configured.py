"""Settings: names that are none, values that contradict each other, files that others can read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import msgspec

from modelyard.compose.access import open_gate, open_proxies
from modelyard.compose.registry import open_trust
from modelyard.compose.secured import open_tls
from modelyard.core.names import is_loopback
from modelyard.doctor.finding import Case, Finding
from modelyard.jobs.addresses import Destinations
from modelyard.jobs.signing import Signer
from modelyard.settings import PREFIX, Settings, SettingsError, parts_of
from modelyard.settings_shown import ignored_variables, is_secret

_EXTRAS = {"grpc": "grpc", "mcp": "mcp", "jwt": "tokens", "sqlalchemy": "store"}


def check_settings(case: Case) -> Iterator[Finding]:
    """Look at the settings themselves, as a start would, and at what a start does not mind."""
    found = [*_unknown(), *_refused(case), *_doubtful(case)]
    yield from found
    if not found:
        given = sum(origin != "default" for origin in case.origins.values())
        yield Finding("settings", "ok", f"{given} of {len(case.origins)} are given, all are usable")


def _unknown() -> Iterator[Finding]:
    for sentence in ignored_variables():
        yield Finding("settings", "warn", sentence, "correct its name, or remove it")


def _refused(case: Case) -> Iterator[Finding]:
    """Look for what a start would end with."""
    settings = case.settings
    if case.role != "worker":
        if not settings.auth and not is_loopback(settings.host):
            yield _fail(
                f"{settings.host} can be reached from other machines, and nothing says who may ask",
                "set auth to keys, or to none for everybody; or host to 127.0.0.1",
            )
        if settings.auth != "keys" and (settings.keys_file or settings.tokens_file):
            yield _fail("keys_file and tokens_file are of use with auth = keys alone", "set auth")
        if settings.auth != "keys" and settings.trusted_proxies:
            yield _fail("trusted_proxies needs auth = keys", "set auth")
        if settings.grpc_port and settings.grpc_port == settings.port:
            yield _fail(f"HTTP and gRPC want the same port, {settings.port}", "change grpc_port")
    for library in _needed(settings):
        extra = _EXTRAS[library]
        yield _fail(
            f"{extra} needs a library that is not here: {library}",
            f"pip install 'modelyard[{extra}]'",
        )
    for check in (open_tls, open_trust, _check_access, _check_callbacks):
        try:
            check(settings)
        except SettingsError as error:
            yield _fail(str(error), "correct it: no server starts with it")


def _needed(settings: Settings) -> list[str]:
    wanted = {
        "grpc": settings.grpc_port is not None,
        "mcp": settings.mcp,
        "jwt": bool(settings.tokens_file),
        "sqlalchemy": settings.keeps_keys_in_store or bool(settings.database_url),
    }
    return [name for name, is_wanted in wanted.items() if is_wanted and find_spec(name) is None]


def _check_access(settings: Settings) -> None:
    """See that proxies and keys of a file can be read; the store is another check."""
    if settings.auth != "keys":
        return
    if settings.keys_file:
        open_gate(msgspec.structs.replace(settings, database_url="", tokens_file=""))
    open_proxies(settings)


def _check_callbacks(settings: Settings) -> None:
    try:
        Signer(parts_of(settings.callback_secrets))
        Destinations(parts_of(settings.callback_networks))
    except ValueError as error:
        raise SettingsError(f"callback_secrets, callback_networks: {error}") from error


def _doubtful(case: Case) -> Iterator[Finding]:
    """Look for what a start passes over, and nobody means."""
    settings = case.settings
    if settings.amqp_username and "@" in settings.amqp_url:
        yield _warn("amqp_url names a user, so amqp_username does not count", "leave one of them")
    if settings.redis_username and "@" in settings.redis_url:
        yield _warn("redis_url names a user, so redis_username does not count", "leave one of them")
    if (settings.redis_username or settings.redis_password) and not settings.redis_url:
        yield _warn("a user of Redis is set, and no redis_url", "set redis_url")
    if settings.max_bodies_bytes < settings.max_body_bytes:
        yield _warn(
            "max_bodies_bytes is below max_body_bytes: a large body is refused with 503, always",
            "raise max_bodies_bytes to several times max_body_bytes",
        )
    if settings.callback_networks and not settings.callback_secrets:
        yield _warn("callback_networks is set, and no callback_secrets", "set callback_secrets")
    if settings.call_key and not settings.gateway_url:
        yield _warn("call_key is set, and no gateway_url to send it to", "set gateway_url")
    if case.role == "gateway" and settings.has_store and not settings.database_url:
        yield _warn(
            "this gateway keeps what lasts in an SQLite of its own: others do not see its keys, "
            "routes and jobs",
            "set database_url to a PostgreSQL that all gateways share",
        )
    if settings.show_model_errors and not is_loopback(settings.host):
        yield _warn(
            "callers are told what models' exceptions say, which may hold secrets",
            "set show_model_errors to false where callers are strangers",
        )


def check_files(case: Case) -> Iterator[Finding]:
    """See that files with secrets can be read by us, and by no other user of this machine."""
    count = 0
    for path in _secret_files(case):
        count += 1
        try:
            mode = path.stat().st_mode
            with path.open("rb"):
                pass
        except OSError as error:
            do = "let the user that runs Modelyard read it"
            yield Finding("files", "fail", f"{path}: {error.strerror}", do)
            continue
        if mode & stat.S_IROTH:
            yield Finding(
                "files",
                "warn",
                f"{path} can be read by every user of this machine",
                f"chmod o-rwx {path}",
            )
    if not count:
        yield Finding("files", "ok", "no file here holds a secret")
    else:
        files = "1 file holds" if count == 1 else f"{count} files hold"
        yield Finding("files", "ok", f"{files} secrets")


def _secret_files(case: Case) -> Iterator[Path]:
    settings = case.settings
    from_files = {
        Path(origin)
        for name, origin in case.origins.items()
        if (is_secret(name) or name.endswith("_url"))
        and not (origin == "default" or origin.startswith(("--", PREFIX)))
    }
    if case.secrets is not None and case.secrets.is_dir():
        from_files |= {path for path in case.secrets.iterdir() if path.is_file()}
    yield from sorted(from_files)
    for name in filter(None, (settings.tls_key, settings.keys_file, settings.tokens_file)):
        yield Path(name)
    if settings.has_store and not settings.database_url:
        yield Path(settings.store_url.removeprefix("sqlite:///"))
    kept = settings.state / "keys.json"
    if os.path.lexists(kept):
        yield kept


def _fail(what: str, do: str) -> Finding:
    return Finding("settings", "fail", what, do)


def _warn(what: str, do: str) -> Finding:
    return Finding("settings", "warn", what, do)
