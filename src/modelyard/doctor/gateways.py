"""Gateways that run, and others that settings name by a URL: their release, clock and readiness."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import msgspec

from modelyard import __version__
from modelyard.doctor.finding import Case, Finding, of_clock

PATIENCE_S = 4.0


class _Links(msgspec.Struct):
    version: str = ""


class _Readiness(msgspec.Struct):
    status: str = ""
    models: dict[str, str] = {}


class _Answer(NamedTuple):
    status: int
    date: str
    body: bytes


def check_gateways(case: Case) -> Iterator[Finding]:
    """Ask those that were named for their release, and whether they are ready."""
    for url in case.gateways:
        yield from _ask_gateway(url.rstrip("/"))
    if case.settings.registry_url:
        yield from _ask_gateway(case.settings.registry_url.rstrip("/"))
    if case.settings.prometheus_url:
        url = case.settings.prometheus_url.rstrip("/")
        try:
            status = _get(f"{url}/-/ready").status
            if status != 200:
                raise OSError(f"it answers {status}")
        except (OSError, HTTPException, ValueError) as error:
            do = "correct prometheus_url; until then the console shows what this gateway remembers"
            yield Finding("prometheus", "warn", f"{url}: {error}", do)
        else:
            yield Finding("prometheus", "ok", f"{url} is ready")


def _ask_gateway(url: str) -> Iterator[Finding]:
    try:
        first = _get(url)
        version = msgspec.json.decode(first.body, type=_Links).version
        if not version:
            raise ValueError("this is no Modelyard")
        ready = _get(f"{url}/readyz")
        told = msgspec.json.decode(ready.body, type=_Readiness)
    except (OSError, HTTPException, ValueError) as error:  # msgspec's are ValueErrors
        do = "start a gateway there, or correct its address"
        yield Finding("members", "fail", f"{url}: {error}", do)
        return
    if version != __version__:
        yield Finding(
            "members",
            "warn",
            f"{url} runs {version}, this is {__version__}",
            "finish the upgrade: two releases side by side are for its time alone",
        )
    failed = [f"{name} is {state}" for name, state in told.models.items() if "failed" in state]
    if ready.status != 200:
        do = "`modelyard models` and its log say why"
        yield Finding("members", "fail", f"{url} is not ready: {told.status}", do)
    elif failed:
        yield Finding("members", "warn", "; ".join(failed[:3]), "`modelyard models` shows all")
    else:
        yield Finding("members", "ok", f"{url} is ready, and runs {version}")
    if first.date:
        ahead_s = parsedate_to_datetime(first.date).timestamp() + 0.5 - time.time()
        yield of_clock(ahead_s, f"the clock of {url}", precision_s=0.5)


def _get(url: str) -> _Answer:
    if not url.startswith(("http://", "https://")):
        raise ValueError("a gateway's address begins with http:// or https://")
    request = Request(url, headers={"accept": "application/json"})  # noqa: S310
    try:
        with urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310
            return _Answer(answer.status, answer.headers.get("date", ""), answer.read())
    except HTTPError as error:
        with error:
            return _Answer(error.code, error.headers.get("date", ""), error.read())
