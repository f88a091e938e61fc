"""Trying a model: the page of the model again, with the answer."""

from __future__ import annotations

import asyncio
import json

from fastapi import APIRouter, Request, Response

from modelyard.console.instance_form import read_instance
from modelyard.console.interfaces import Sources
from modelyard.console.looking import chosen_version, model_facts, served_here
from modelyard.console.model_page import decode_schema
from modelyard.console.rendering import Rendering
from modelyard.console.sent_form import read_form
from modelyard.console.trying import try_out
from modelyard.core.errors import InvalidInput
from modelyard.core.messages import Schema

AS_JSON = "instances"


def add_acting(router: APIRouter, sources: Sources, rendering: Rendering) -> None:
    """Add the routes."""

    @router.post("/models/{name}/try")
    async def try_it(request: Request, name: str) -> Response:
        sent = await read_form(request)
        caller = rendering.caller_of(request)
        all_ = served_here(sources, request, name)
        one = chosen_version(all_, sent.get("version", ""))
        tried, problem, status = None, "", 200
        try:
            instances = await asyncio.to_thread(_instances, one.known.schema, sent)
        except InvalidInput as error:
            problem, status = error.detail, 422
        else:
            is_bypass = "bypass" in sent
            tried = await try_out(sources, request, one.target, instances, is_bypass=is_bypass)

        def render() -> str:
            facts = model_facts(sources, request, caller, all_, one)
            facts |= {"tried": tried, "problem": problem, "sent": sent, "members": []}
            return rendering.text("model.html", request, caller, **facts)

        return rendering.respond(await asyncio.to_thread(render), request, caller, status=status)


def _instances(schema: Schema | None, sent: dict[str, str]) -> list[object]:
    """Return the instances that a form says, as JSON or by its fields.

    Raises:
        InvalidInput: It says none.
    """
    if AS_JSON not in sent:
        return [read_instance(decode_schema(schema), sent)]
    try:
        found = json.loads(sent[AS_JSON])
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"the instances are no JSON: {error}") from error
    if not isinstance(found, list):
        raise InvalidInput("the instances are a list, as [[5.1, 3.5, 1.4, 0.2]]")
    return found
