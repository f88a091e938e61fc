"""A page as a response: templates, and the headers that keep a page safe."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from hashlib import sha256
from importlib import resources
from typing import Any

from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from modelyard.console import figures
from modelyard.console.caller import Caller
from modelyard.gateway.sessions import new_session, session_of, set_session

SAFE = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "cache-control": "no-store",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


ASSETS = resources.files("modelyard.console") / "assets"


class Rendering:
    """Makes pages.

    Args:
        version: Of Modelyard, which is in the foot.
        is_guarded: Whether callers need a key.
        may_change: Whether anybody may change something.
        plots_all: Whether plots are of all gateways.
        has_jobs: Whether there is a page of jobs.
    """

    def __init__(
        self,
        *,
        version: str,
        is_guarded: bool,
        may_change: bool,
        plots_all: bool,
        has_jobs: bool,
    ) -> None:
        self._is_guarded = is_guarded
        self._may_change = may_change
        self._templates = made = Environment(
            loader=PackageLoader("modelyard.console"),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=StrictUndefined,
            auto_reload=False,
        )
        for name in ("duration", "rate", "share", "count", "moment", "iso", "ago"):
            made.filters[name] = getattr(figures, name)
        made.filters["breakable"] = _breakable
        made.globals["plots_all"] = plots_all
        made.globals["has_jobs"] = has_jobs
        made.globals["version"] = version
        made.globals["edition"] = _edition()
        made.globals["is_guarded"] = is_guarded

    def caller_of(self, request: Request) -> Caller:
        """Return who looks at a page."""
        return Caller(
            request,
            is_guarded=self._is_guarded,
            may_change=self._may_change,
            session=session_of(request) or new_session(),
        )

    def text(self, template: str, request: Request, caller: Caller, **facts: Any) -> str:
        """Return a page. Takes as long as it is large: call it from a thread."""
        page = self._templates.get_template(template)
        now = datetime.now(UTC).timestamp()
        return page.render(path=request.url.path, who=caller, now=now, **facts)

    def respond(
        self, text: str, request: Request, caller: Caller, *, status: int = 200
    ) -> Response:
        """Return the response that has a page."""
        response = HTMLResponse(text, status, headers=SAFE)
        if caller.session != session_of(request):
            set_session(request, response, caller.session)
        return response


def _breakable(name: str) -> Markup:
    """Return a name that may be broken after its parts."""
    return Markup("<wbr>").join(re.split(r"(?<=[_.-])", name))  # which escapes what it joins


def _edition() -> str:
    """Return what changes with the assets: browsers keep each edition for ever."""
    files = sorted(ASSETS.iterdir(), key=lambda file: file.name)
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
