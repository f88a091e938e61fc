"""Forms as they come back: only from a page of ours, in the same session; and where they lead."""

from __future__ import annotations

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from modelyard.console.rendering import SAFE
from modelyard.core.errors import Forbidden
from modelyard.gateway.sessions import PATH, TOKEN_FIELD, is_console, is_own_form

MOST_FIELDS = 500


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a form.

    Raises:
        Forbidden: It was not sent from a page of ours.
    """
    form = await request.form(max_files=0, max_fields=MOST_FIELDS)
    sent = {name: value for name, value in form.items() if isinstance(value, str)}
    if not is_own_form(request, sent.get(TOKEN_FIELD, "")):
        raise Forbidden("this form is of another session: load its page again, and send it again")
    return sent


def see_other(path: str) -> Response:
    """Return a response that leads to another page of the console, whatever was asked for."""
    safe = path if is_console(path.partition("?")[0]) and path.isascii() else PATH
    return RedirectResponse(safe, 303, headers=SAFE)
