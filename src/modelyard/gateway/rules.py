"""What each page asks of its caller, where callers are known. Predictions have a rule of their own,
in ``access/gate.py``.

    nothing   open to everybody: probes, and the start page
    key       any valid key; of jobs it sees its owner's (``job_pages.py``)
    see       a key that may see the model that the path names
    predict   a key that may ask it
    release   a key that may load and unload it, and push versions of it
    push      a key that may do so with some model
    admin     the scope ``admin``
    docs, metrics, models     the scope ``read``, unless the setting ``open_pages`` names them

What is listed is what the caller may see (``seen``). A path without a rule is open to nobody but
``admin``: a test sees that every route has one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

from fastapi import Request

from modelyard.access.gate import Credential, Gate, refusal
from modelyard.access.keyring import Principal
from modelyard.core.errors import Forbidden
from modelyard.dispatch.entry import Entry

Need = Literal[
    "nothing", "key", "see", "predict", "release", "push", "admin", "docs", "metrics", "models"
]

ADMINISTRATIVE: frozenset[Need] = frozenset(("release", "admin"))
"""What is noted in the audit, also if it is refused. Of ``push``, whose single artefacts would fill
it, only what is refused is.
"""

PRINCIPAL = "modelyard.principal"
"""Where the scope of a request has its caller: None if nobody is known here, and so may all."""

_NAME = r"(?P<name>[^/]+)"
_RULES: tuple[tuple[str, str, Need], ...] = (
    ("GET", r"/|/healthz|/readyz|/v2/health/(live|ready)", "nothing"),
    ("GET", r"/docs(/.*)?|/openapi\.json|/static-offline-docs(/.*)?", "docs"),
    ("GET", r"/metrics|/models/[^/]+/versions/[^/]+/demand", "metrics"),
    ("GET", r"/models|/v1/models|/v2/models", "models"),
    ("POST", r"/v2/repository/index", "models"),
    ("GET", r"/v2/models/stats", "models"),
    ("GET", r"/v2/?", "key"),
    ("POST", r"/mcp", "key"),
    ("GET", rf"/models/{_NAME}(/example)?", "see"),
    ("GET", rf"/v2/models/{_NAME}(/versions/[^/]+)?(/ready|/config|/stats)?", "see"),
    ("GET", r"/v1/models/(?P<name>[^/@]+)(@[^/]*)?", "see"),
    ("POST", rf"/v1/models/{_NAME}:explain", "see"),
    ("POST", rf"/models/{_NAME}/(load|unload)", "release"),
    ("POST", rf"/v2/repository/models/{_NAME}/(load|unload)", "release"),
    ("GET", r"/registry/(models|routes)", "key"),
    ("GET", r"/jobs(/[^/]+(/result|/events|/deliveries)?)?", "key"),
    ("POST", r"/jobs/[^/]+/(cancel|retry|deliveries/[^/]+/replay)", "key"),
    ("GET", r"/batches(/[^/]+(/output|/errors)?)?", "key"),
    ("POST", r"/batches(/[^/]+/cancel)?", "key"),
    ("GET", r"/v1/(files(/[^/]+(/content)?)?|batches(/[^/]+)?)", "key"),
    ("POST", r"/v1/(files|batches(/[^/]+/cancel)?)", "key"),
    ("DELETE", r"/v1/files/[^/]+", "key"),
    ("GET", r"/callbacks/secrets", "key"),
    ("DELETE", r"/jobs/[^/]+", "key"),
    ("GET", rf"/registry/models/{_NAME}(/audit|/versions/[^/]+(/files/.+)?)?", "see"),
    ("PUT", rf"/registry/models/{_NAME}/(versions|aliases)/[^/]+", "release"),
    ("DELETE", rf"/registry/models/{_NAME}/aliases/[^/]+", "release"),
    ("GET", r"/registry/blobs/sha256/[^/]+", "push"),
    ("PUT", r"/registry/blobs/sha256/[^/]+", "push"),
    ("POST", r"/registry/collect", "admin"),
    ("GET", r"/console/(sign-in|assets/[^/]+)", "nothing"),
    ("POST", r"/console/(sign-in|sign-out)", "nothing"),
    ("GET", r"/console(/|/releases|/jobs|/usage|/faults|/history)?", "key"),
    ("GET", rf"/console/models/{_NAME}(/history)?", "see"),
    ("POST", rf"/console/models/{_NAME}/try", "predict"),
    ("GET", rf"/console/releases/{_NAME}(/change)?", "see"),
    ("POST", rf"/console/releases/{_NAME}/change", "release"),
)
_COMPILED = [(method, re.compile(pattern), need) for method, pattern, need in _RULES]


class Rule(NamedTuple):
    """What a request needs, and the model that its path names."""

    need: Need
    name: str = ""


def rule_of(method: str, path: str) -> Rule | None:
    """Return the rule of a request; None if it has none."""
    method = "GET" if method == "HEAD" else method
    for known, pattern, need in _COMPILED:
        if known == method and (found := pattern.fullmatch(path)) is not None:
            return Rule(need, found.groupdict().get("name") or "")
    return None


def seen(request: Request, entries: Iterable[Entry]) -> list[Entry]:
    """Return the targets that the caller may see."""
    return visible_to(request.scope.get(PRINCIPAL), entries)


def visible_to(principal: Principal | None, entries: Iterable[Entry]) -> list[Entry]:
    """Return the targets that a caller may see; None is one that may see all."""
    if principal is None:
        return list(entries)
    return [entry for entry in entries if principal.scopes.may_see(entry.target.name)]


def let_in(
    gate: Gate,
    rule: Rule,
    credential: Credential,
    *,
    host: str,
    act: str,
    is_answered_later: bool = False,
) -> Principal:
    """Return who calls, if that may have what it asks for; write down what is administrative.

    ``credential`` and ``host``: see ``Gate.principal_of``. ``act``: what is asked for, in words.
    ``is_answered_later``: whether the one that calls this writes down what it lets in.

    Raises:
        RequestError: It may not.
    """
    actor, is_refused = host, True
    try:
        principal = gate.principal_of(credential, host)
        actor = principal.id
        check_need(rule.need, rule.name, principal)
        is_refused = False
    finally:
        is_told = is_refused or not is_answered_later
        if (rule.need in ADMINISTRATIVE and is_told) or (is_refused and rule.need == "push"):
            said = f"refused: {act}" if is_refused else act
            gate.audit.note(actor, said, rule.name, is_refused=is_refused)
    return principal


def check_need(need: Need, name: str, principal: Principal) -> None:
    """See that a caller has what a page or call needs; ``name``: the model that it names.

    Raises:
        RequestError: It has not.
    """
    scopes = principal.scopes
    if need in ("docs", "metrics") and not scopes.may_read:
        raise Forbidden(f"the key {principal.id} lacks the scope read")
    if need == "push" and not scopes.may_release_some:
        raise Forbidden(f"the key {principal.id} lacks a scope release:MODEL")
    if need == "admin" and not scopes.is_admin:
        raise Forbidden(f"the key {principal.id} lacks the scope admin")
    if need == "see" and not scopes.may_see(name):
        raise refusal(principal, name, scope="read")
    if need == "predict" and not scopes.may_predict(name):
        raise refusal(principal, name, scope=f"predict:{name}")
    if need == "release" and not scopes.may_release(name):
        raise refusal(principal, name, scope=f"release:{name}")
