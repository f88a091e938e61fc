"""What a check has found, and what it is given."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from modelyard.settings import Settings
from modelyard.settings_shown import MASK, is_secret

State = Literal["ok", "warn", "fail"]
Role = Literal["serve", "gateway", "worker"]
ROLES: tuple[Role, ...] = ("serve", "gateway", "worker")

SHORTEST_HIDDEN = 4  # a shorter one would hide half of every sentence, and guards nothing
KNOWN_TO_ALL = "guest"  # RabbitMQ's user and password by default
WARN_AHEAD_S, FAIL_AHEAD_S = 0.5, 5.0
_PASSWORD = re.compile(r"://[^:@/\s]*:([^@\s]*)@|[?&]password=([^&\s]*)")


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that was looked at.

    Attributes:
        check: What it belongs to, as ``broker``.
        state: ``ok``; ``warn``: it works, and should be looked at; ``fail``: it will not work.
        what: What was found.
        do: What to do about it; empty if nothing.
    """

    check: str
    state: State
    what: str
    do: str = ""


class Case(NamedTuple):
    """What is examined.

    Attributes:
        settings: As they apply here.
        role: Whose work is tried.
        origins: Where each setting's value comes from: a flag, a variable, a file.
        secrets: The folder of secrets; None for none.
        gateways: Addresses of gateways that run, to compare with.
    """

    settings: Settings
    role: Role
    origins: Mapping[str, str]
    secrets: Path | None
    gateways: tuple[str, ...] = ()


Check: TypeAlias = Callable[[Case], Iterator[Finding]]


def of_clock(ahead_s: float, whose: str, *, precision_s: float = 0.0) -> Finding:
    """Say how far another clock is from ours. Deadlines leave a machine as times of day."""
    apart_s = max(0.0, abs(ahead_s) - precision_s)
    what = f"{whose} is {abs(ahead_s):.2f} s {'ahead' if ahead_s > 0 else 'behind'}"
    state: State = "ok" if apart_s < WARN_AHEAD_S else "warn" if apart_s < FAIL_AHEAD_S else "fail"
    do = "let both machines follow one clock (NTP): deadlines travel as times of day"
    return Finding("clocks", state, what, "" if state == "ok" else do)


class Veil:
    """Takes secrets out of what is said: libraries quote what they were given."""

    def __init__(self, settings: Settings) -> None:
        found: set[str] = set()
        for name, value in msgspec.structs.asdict(settings).items():
            if not isinstance(value, str) or not value:
                continue
            if is_secret(name):
                found |= {value, *value.split(",")}
            elif name.endswith("_url"):
                for pair in _PASSWORD.findall(value):
                    found |= set(pair)
        found.discard(KNOWN_TO_ALL)
        kept = sorted((one for one in found if len(one) >= SHORTEST_HIDDEN), key=len, reverse=True)
        self._secrets = kept

    def over(self, finding: Finding) -> Finding:
        """Return a finding without secrets, each text on one line."""
        return msgspec.structs.replace(
            finding, what=self._hide(finding.what), do=self._hide(finding.do)
        )

    def _hide(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return " ".join(text.split())
