"""What a server needs others for: the broker, Redis, the database, the place of artefacts."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Iterator
from importlib.util import find_spec
from random import SystemRandom
from typing import Literal
from urllib.parse import urlsplit

from modelyard import __version__
from modelyard.compose.registry import artefacts_of
from modelyard.compose.running import own_name
from modelyard.core.errors import RequestError
from modelyard.doctor.finding import Case, Finding, of_clock
from modelyard.registry.errors import RegistryError
from modelyard.store.errors import StoreError
from modelyard.transports.amqp.address import Address, parse_addresses
from modelyard.transports.amqp.confirms import BrokerError
from modelyard.transports.amqp.session import Broker
from modelyard.transports.amqp.trial import Refused, Seen, Trial

LARGEST_TRIED_BYTES = 64 << 20
ENVELOPE_BYTES = 4096  # what a message holds beside a body
_NOTHING = f"sha256:{64 * '0'}"
_CLASS = re.compile(r"\(\w+\.\w+\) ")  # of the library's exception
_SLOW_S = 0.02  # of the 50 ms after which a gateway does without Redis


class _NoMetrics:
    def broker_event(self, event: str) -> None:
        pass


def check_broker(case: Case) -> Iterator[Finding]:
    """Try at each address of the broker what this role does there."""
    settings = case.settings
    try:
        addresses = parse_addresses(settings.broker_url)
    except (ValueError, OSError) as error:
        yield Finding("broker", "fail", f"amqp_url: {error}", "correct amqp_url")
        return
    broker = Broker(
        addresses=addresses,
        owner=own_name(),
        metrics=_NoMetrics(),
        clock=time.monotonic,
        wall_clock=time.time,
        chance=SystemRandom(),
        release=__version__,
    )
    largest = settings.max_body_bytes + ENVELOPE_BYTES
    tried = largest if largest <= LARGEST_TRIED_BYTES else None
    for number, address in enumerate(addresses):
        role: Literal["gateway", "worker"] = "worker" if case.role == "worker" else "gateway"
        trial = Trial(broker, address, role=role, largest_bytes=tried)
        try:
            seen = asyncio.run(trial.run())
        except (BrokerError, OSError) as error:
            yield _unreachable(address, error)
            continue
        yield Finding("broker", "ok", f"{seen.product} at {address}, as {address.user}")
        yield from _at(seen, address)
        if not (seen.refused or seen.is_blocked):
            size = f", messages of {largest / 1e6:.0f} MB" if tried else ""
            yield Finding("broker", "ok", f"takes all that a {role} does there{size}")
        if number == 0 and role == "gateway":
            yield from _members(seen)
    if tried is None:
        yield Finding(
            "broker",
            "warn",
            f"max_body_bytes is {settings.max_body_bytes / 1e6:.0f} MB; so large a message was "
            "not tried",
            "compare it with max_message_size of the broker",
        )


def _unreachable(address: Address, error: Exception) -> Finding:
    text = str(error) or "no answer in time"
    if "ACCESS_REFUSED" in text:
        do = (
            f"correct amqp_username and amqp_password; `rabbitmqctl authenticate_user "
            f"{address.user}` asks for the password and tries it. guest may log in from the "
            "broker's own machine alone"
        )
    elif "NOT_ALLOWED" in text or "NOT_FOUND" in text:
        do = (
            f"make the virtual host {address.vhost!r} and give {address.user} rights there, or "
            "correct the end of amqp_url"
        )
    else:
        do = "start RabbitMQ there, open the way to it, or correct amqp_url"
    return Finding("broker", "fail", f"{address}: {text}", do)


def _at(seen: Seen, address: Address) -> Iterator[Finding]:
    if seen.is_blocked:
        yield Finding(
            "broker",
            "fail",
            "it takes no messages: an alarm, of memory or of disk",
            "`rabbitmq-diagnostics check_local_alarms` says which; give it more, or drain queues",
        )
    for one in seen.refused:
        yield Finding(
            "broker", "fail", f"{address.user} cannot {one.step}: {one.why}", _mend(one, address)
        )


def _mend(refused: Refused, address: Address) -> str:
    if "larger than" in refused.why:
        return "raise max_message_size of the broker, or lower max_body_bytes"
    if "ACCESS_REFUSED" in refused.why:
        return (
            f"`rabbitmqctl list_user_permissions {address.user}` shows what is granted; what is "
            "needed is in the charts, and on the page about a cluster"
        )
    if "PRECONDITION_FAILED" in refused.why:
        return "something of this name is there with other properties: remove that"
    return "look at the broker's log"


def _members(seen: Seen) -> Iterator[Finding]:
    """Compare the workers that answered with this installation."""
    if not seen.heard:
        yield Finding("members", "ok", "no worker is up")
        return
    others: dict[str, list[str]] = {}
    for status, _ in seen.heard.values():
        if status.release != __version__:
            others.setdefault(status.release or "an older release", []).append(
                f"{status.target} on {status.host}"
            )
    for release, places in sorted(others.items()):
        yield Finding(
            "members",
            "warn",
            f"{_some(places)} run {release}, this is {__version__}",
            "finish the upgrade: two releases side by side are for its time alone",
        )
    down = [
        f"{status.target} on {status.host} is {status.state}"
        + (f" ({status.reason})" if status.reason else "")
        for status, _ in seen.heard.values()
        if status.state == "failed"
    ]
    if down:
        yield Finding("members", "warn", _some(down), "`modelyard models` shows all of them")
    if not others:
        workers = "1 worker runs" if len(seen.heard) == 1 else f"{len(seen.heard)} workers run"
        yield Finding("members", "ok", f"{workers} {__version__}, as this does")
    clocks = [(a, s.host) for s, a in seen.heard.values() if a is not None]
    if clocks:
        ahead_s, host = max(clocks, key=lambda pair: abs(pair[0]))
        furthest = f"of {len(clocks)} workers' clocks the furthest, on {host},"
        yield of_clock(ahead_s, furthest if clocks[1:] else f"the clock of the worker on {host}")


def _some(texts: list[str]) -> str:
    more = f", and {len(texts) - 3} more" if len(texts) > 3 else ""
    return ", ".join(texts[:3]) + more


def check_redis(case: Case) -> Iterator[Finding]:
    """Write to the shared cache and read from it."""
    url = case.settings.cache_url
    if not url:
        return
    from modelyard.caches.trial import TrialError, look

    parts = urlsplit(url)
    where = f"{parts.hostname}:{parts.port or 6379}"
    try:
        seen = look(url)
    except TrialError as error:
        text = str(error)
        is_refused = any(word in text for word in ("WRONGPASS", "NOAUTH", "NOPERM", "password"))
        do = (
            "correct redis_username and redis_password; the user needs +@all on modelyard:*"
            if is_refused
            else "start Redis there, open the way to it, or correct redis_url; until then each "
            "gateway caches for itself"
        )
        yield Finding("redis", "fail", f"{where}: {text}", do)
        return
    version = f" {seen.version}" if seen.version else ""
    yield Finding("redis", "ok", f"Redis{version} at {where}, {seen.trip_s * 1000:.1f} ms a call")
    if seen.trip_s > _SLOW_S:
        yield Finding(
            "redis",
            "warn",
            f"a call takes {seen.trip_s * 1000:.0f} ms; gateways wait 50 ms and then do without",
            "bring it nearer, or leave redis_url out",
        )
    if seen.most_bytes and seen.policy == "noeviction":
        yield Finding(
            "redis",
            "warn",
            f"once its {seen.most_bytes / 1e6:.0f} MB are full it refuses new answers",
            "set maxmemory-policy to allkeys-lru, if it serves nothing else",
        )
    if seen.ahead_s is not None:
        yield of_clock(seen.ahead_s, "Redis's clock")


def check_database(case: Case) -> Iterator[Finding]:
    """Look at the store: is it there, in the schema of this release, and ours to change?"""
    settings = case.settings
    if not settings.has_store:
        if settings.keeps_keys_in_store and case.role != "worker":
            do = "make one, with a key: `modelyard keys create --owner NAME --scope admin`"
            yield Finding("database", "fail", "keys are in the store, and there is none", do)
        return
    if find_spec("sqlalchemy") is None:
        return  # the settings' check says so
    from modelyard.store.schema import place_of
    from modelyard.store.trial import look

    try:
        seen = look(settings.store_url)
        where = place_of(settings.store_url)
    except StoreError as error:
        text = _CLASS.sub("", str(error))
        yield Finding("database", "fail", text, _mend_database(text))
        return
    if not seen.is_there or (seen.revision != seen.wanted and not seen.is_newer):
        known = seen.revision or "not there yet"
        yield Finding(
            "database",
            "fail",
            f"the schema of {where} is {known}, this release needs {seen.wanted}",
            "run `modelyard store upgrade` with the same settings",
        )
        return
    yield Finding("database", "ok", f"{seen.product} at {where}, schema {seen.revision}")
    if seen.is_newer:
        yield Finding(
            "database",
            "warn",
            f"a newer release has made its schema; this one knows {seen.wanted}",
            "upgrade this installation: it works meanwhile",
        )
    if seen.lacking:
        rights = ", ".join(seen.lacking[:4]) + (" and more" if len(seen.lacking) > 4 else "")
        do = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO the user"
        do = do if settings.database_url.startswith("postgres") else "let this user write there"
        yield Finding("database", "fail", f"its user lacks {rights}", do)
    if seen.ahead_s is not None:
        yield of_clock(seen.ahead_s, "the database's clock")


def _mend_database(text: str) -> str:
    if "password" in text or "authentication" in text or "role " in text:
        return "correct user and password in database_url"
    if "does not exist" in text:
        return "make the database, or correct the end of database_url"
    if "pip install" in text or "offered" in text or "is none" in text:
        return "correct database_url, or install what it names"
    return "start the database, open the way to it, or correct database_url"


def check_artefacts(case: Case) -> Iterator[Finding]:
    """Look for an artefact that is not there, then write a small one and remove it."""
    settings = case.settings
    place = artefacts_of(settings)
    if not (settings.artefacts_url or settings.has_store) or not place:
        return
    if find_spec("fsspec") is None:
        if settings.artefacts_url:
            do = "pip install 'modelyard[registry]'"
            yield Finding("artefacts", "fail", "the registry needs libraries that are not here", do)
        return
    from modelyard.registry.blobs import Blobs

    content = b"modelyard doctor was here"
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    try:
        blobs = Blobs(place)
        blobs.size_of(_NOTHING)
    except (RegistryError, RequestError) as error:
        do = "correct artefacts_url and what gives access to it, or open the way"
        yield Finding("artefacts", "fail", f"{place}: {error}", do)
        return
    try:
        with blobs.receiving(digest) as incoming:
            incoming.write(content)
            incoming.finish()
        blobs.remove(digest)
    except (RegistryError, RequestError) as error:
        yield Finding(
            "artefacts",
            "warn",
            f"{place} can be read, and not be written: {error}",
            "give the right to write, where `modelyard registry push` should work",
        )
        return
    yield Finding("artefacts", "ok", f"{place} can be read and written")
