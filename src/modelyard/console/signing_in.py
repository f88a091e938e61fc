"""Signing in with a key, and out again; see ``gateway/sessions.py`` for where the key is then."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from modelyard.access.gate import Gate
from modelyard.console.rendering import Rendering
from modelyard.console.sent_form import read_form, see_other
from modelyard.core.errors import Unauthenticated
from modelyard.gateway.guard import host_of, vouched
from modelyard.gateway.sessions import (
    LONGEST_KEY,
    PATH,
    new_session,
    set_session,
)


def add_signing_in(router: APIRouter, rendering: Rendering, gate: Gate | None) -> None:
    """Add the routes."""

    @router.get("/sign-in")
    async def ask(request: Request, to: str = PATH) -> Response:
        caller = rendering.caller_of(request)
        caller.is_inside = False  # whoever it is: there is no way about from here
        text = rendering.text("sign_in.html", request, caller, problem="", to=to)
        return rendering.respond(text, request, caller)

    @router.post("/sign-in")
    async def sign_in(request: Request) -> Response:
        sent = await read_form(request)
        key, to = sent.get("key", "").strip(), sent.get("to", PATH)
        if gate is None:
            return see_other(PATH)
        try:
            if len(key) > LONGEST_KEY or not key.isascii():
                raise Unauthenticated("this is no key")
            credential = vouched(gate, request, f"Bearer {key}".encode())
            gate.principal_of(credential, host_of(request))
        except Unauthenticated as error:
            caller = rendering.caller_of(request)
            caller.is_inside = False
            problem = error.detail.partition(";")[0]
            text = rendering.text("sign_in.html", request, caller, problem=problem, to=to)
            return rendering.respond(text, request, caller, status=401)
        response = see_other(to)
        set_session(request, response, new_session(key))
        return response

    @router.post("/sign-out")
    async def sign_out(request: Request) -> Response:
        await read_form(request)
        response = see_other(PATH)
        set_session(request, response, "")
        return response
