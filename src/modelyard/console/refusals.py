"""Errors as pages: what went wrong, and a way on; somebody unknown gets the form to sign in."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from modelyard.console.rendering import Rendering
from modelyard.core.errors import InvalidInput, RequestError, Unauthenticated
from modelyard.gateway.guard import Refuse
from modelyard.gateway.problems import problem_of
from modelyard.gateway.question import new_request_id
from modelyard.gateway.sessions import is_console

_Answer = Callable[[Request], Coroutine[Any, Any, Response]]


class Refusals:
    """Makes pages of errors.

    Args:
        rendering: Makes pages.
    """

    def __init__(self, rendering: Rendering) -> None:
        self._rendering = rendering

    def around(self, otherwise: Refuse) -> Refuse:
        """Return what makes pages of errors here, and does as ``otherwise`` elsewhere."""

        async def refuse(request: Request, error: RequestError) -> Response:
            is_ours = is_console(request.scope["path"])
            return await (self.refuse if is_ours else otherwise)(request, error)

        return refuse

    async def refuse(self, request: Request, error: RequestError) -> Response:
        """Return the page of an error."""
        rendering = self._rendering
        caller = rendering.caller_of(request)
        problem = problem_of(error, request_id=new_request_id())
        if isinstance(error, Unauthenticated):
            why = error.detail if caller.has_signed_in else ""
            text = rendering.text("sign_in.html", request, caller, problem=why, to=_way(request))
        else:
            caller.is_inside = True
            text = rendering.text("problem.html", request, caller, problem=problem)
        response = rendering.respond(text, request, caller, status=problem.status)
        if isinstance(error, Unauthenticated):
            response.headers["www-authenticate"] = "Bearer"
        return response

    def route_class(self) -> type[APIRoute]:
        """Return the class of routes whose errors are pages."""
        refuse = self.refuse

        class Page(APIRoute):
            def get_route_handler(self) -> _Answer:
                answer = super().get_route_handler()

                async def handler(request: Request) -> Response:
                    try:
                        return await answer(request)
                    except RequestError as error:
                        return await refuse(request, error)
                    except RequestValidationError as error:
                        return await refuse(request, InvalidInput(str(error.errors()[0]["msg"])))

                return handler

        return Page


def _way(request: Request) -> str:
    """Return the page to go to after signing in."""
    if request.method != "GET":
        return "/console"
    query = f"?{request.url.query}" if request.url.query else ""
    return f"{request.url.path}{query}"
