"""Lets a page's request in or refuses it, by the rules of ``rules.py``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

from fastapi import Request, Response

from modelyard.access.gate import Credential, Gate
from modelyard.access.keyring import Key, Principal
from modelyard.core.errors import RequestError, Unauthenticated
from modelyard.gateway.plans import credential_of
from modelyard.gateway.problems import NotThere
from modelyard.gateway.rules import ADMINISTRATIVE, PRINCIPAL, Rule, let_in, rule_of
from modelyard.gateway.sessions import credential_in, is_console, session_of
from modelyard.gateway.types import App, Message, Receive, Scope, Send

Refuse = Callable[[Request, RequestError], Awaitable[Response]]

_FIRST_ERROR = 400
_STRANGER = Principal(Key(id="", digest="", owner="", scopes=()))


class Guard:
    """An ASGI application around the pages.

    Args:
        pages: What it guards.
        gate: Says who calls.
        open_pages: Of the pages that need ``read``, those that everybody may see.
        refuse: Makes the answer of an error.
    """

    def __init__(
        self, pages: App, *, gate: Gate, open_pages: Collection[str], refuse: Refuse
    ) -> None:
        self._pages = pages
        self._gate = gate
        self._open_pages = open_pages
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        request = Request(scope, receive)
        rule = rule_of(scope["method"], scope["path"])
        try:
            scope[PRINCIPAL] = self._let_in(request, rule)
        except RequestError as error:
            response = await self._refuse(request, error)
            await response(scope, receive, send)
            return
        if rule is not None and rule.need in ADMINISTRATIVE:
            send = self._noting(request, rule, send)
        await self._pages(scope, receive, send)

    def _noting(self, request: Request, rule: Rule, send: Send) -> Send:
        """Return what sends an answer, and writes down whether it was done."""

        async def note_and_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                is_refused = message["status"] >= _FIRST_ERROR
                act = ("refused: " if is_refused else "") + _act_of(request)
                actor = request.scope[PRINCIPAL].id
                self._gate.audit.note(actor, act, rule.name, is_refused=is_refused)
            await send(message)

        return note_and_send

    def _let_in(self, request: Request, rule: Rule | None) -> Principal | None:
        """Return the caller; None for anybody, who may see everything.

        Raises:
            RequestError: It may not have this page.
        """
        if rule is not None and rule.need in self._open_pages:
            return None
        host = host_of(request)
        credential = credential_from(self._gate, request)
        if rule is None:
            principal = self._gate.principal_of(credential, host)
            if not principal.scopes.is_admin:
                raise NotThere("there is nothing here; /docs lists all routes")
            return principal
        act = _act_of(request)
        try:
            return let_in(self._gate, rule, credential, host=host, act=act, is_answered_later=True)
        except Unauthenticated:
            if rule.need == "nothing":
                return _STRANGER
            raise


def _act_of(request: Request) -> str:
    return f"{request.method} {request.url.path}"


def host_of(request: Request) -> str:
    """Return the address that a request came from."""
    return "" if request.client is None else request.client.host


def credential_from(gate: Gate, request: Request) -> Credential:
    """Return what tells who asks: a header, on the console's pages also its cookie, and what a
    trusted proxy says.
    """
    sent = credential_of(dict(request.headers.raw))
    if not sent and is_console(request.scope["path"]):
        sent = credential_in(session_of(request))
    return vouched(gate, request, sent)


def vouched(gate: Gate, request: Request, sent: bytes) -> Credential:
    """Return a credential with what a trusted proxy says of its request."""
    proxies = gate.proxies
    if proxies is None:
        return sent
    return proxies.vouch(request.headers.raw, sent, peer=host_of(request))
