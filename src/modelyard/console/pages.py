"""The pages to look at. Facts are read on the event loop, pages are made of them in a thread."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from modelyard.access.limits import day_of
from modelyard.console import faults_page, overview, usage_page
from modelyard.console.acting import add_acting
from modelyard.console.interfaces import Sources
from modelyard.console.jobs_page import add_jobs
from modelyard.console.looking import chosen_version, model_facts, served_here
from modelyard.console.paging import MOST, paged
from modelyard.console.refusals import Refusals
from modelyard.console.release_pages import add_releases
from modelyard.console.rendering import ASSETS, SAFE, Rendering
from modelyard.console.signing_in import add_signing_in
from modelyard.gateway.problems import NotThere
from modelyard.gateway.sessions import PATH

DAYS = 31
_KINDS = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


def make_console(sources: Sources, rendering: Rendering, refusals: Refusals) -> APIRouter:
    """Return the routes of the console."""
    router = APIRouter(prefix=PATH, include_in_schema=False, route_class=refusals.route_class())
    _add_assets(router)
    _add_overview(router, sources, rendering)
    _add_model(router, sources, rendering)
    _add_usage(router, sources, rendering)
    _add_faults(router, sources, rendering)
    add_releases(router, sources, rendering)
    if sources.jobs is not None:
        add_jobs(router, sources, rendering, sources.jobs)
    add_acting(router, sources, rendering)
    add_signing_in(router, rendering, sources.gate)

    @router.get("/{rest:path}")
    async def nothing(rest: str) -> Response:
        raise NotThere("the console has no such page")

    return router


def _add_assets(router: APIRouter) -> None:
    files = {file.name: file.read_bytes() for file in ASSETS.iterdir()}
    forever = {**SAFE, "cache-control": "public, max-age=31536000, immutable"}

    @router.get("/assets/{name}")
    async def asset(name: str) -> Response:
        kind = _KINDS.get(name.rpartition(".")[2])
        if kind is None or name not in files:
            raise NotThere("there is no such asset")
        return Response(files[name], media_type=kind, headers=forever)


def _add_overview(router: APIRouter, sources: Sources, rendering: Rendering) -> None:
    @router.get("")
    async def show(request: Request, sort: str = "name", q: str = "", page: int = 1) -> Response:
        caller = rendering.caller_of(request)
        all_ = served_here(sources, request)
        trouble = overview.TROUBLES.get(sources.verdict().status, "")

        def render() -> str:
            view = sources.history.view()
            rows = [overview.row_of(one, view) for one in all_]
            found = overview.chosen(rows, sort=sort, wanted=q.strip().lower())
            facts: dict[str, Any] = {
                "page": paged(found, page, total=len(rows)),
                "sums": overview.sums_of(all_, view),
                "notices": overview.notices_of(rows),
                "sort": sort if sort in overview.SORTS else "name",
                "wanted": q,
                "has_queue": sources.workers is not None,
                "trouble": trouble,
            }
            return rendering.text("overview.html", request, caller, **facts)

        return rendering.respond(await asyncio.to_thread(render), request, caller)

    @router.get("/history")
    async def history(request: Request) -> Response:
        targets = [one.target for one in served_here(sources, request)]

        def document() -> dict[str, Any]:
            return overview.columns_of(sources, sources.history.view(), targets)

        return JSONResponse(await asyncio.to_thread(document), headers=SAFE)


def _add_model(router: APIRouter, sources: Sources, rendering: Rendering) -> None:
    @router.get("/models/{name}")
    async def show(request: Request, name: str, version: str = "") -> Response:
        caller = rendering.caller_of(request)
        all_ = served_here(sources, request, name)
        one = chosen_version(all_, version)
        members = sources.workers.members(one.target) if sources.workers else []

        def render() -> str:
            facts = model_facts(sources, request, caller, all_, one)
            return rendering.text("model.html", request, caller, members=members, **facts)

        return rendering.respond(await asyncio.to_thread(render), request, caller)

    @router.get("/models/{name}/history")
    async def history(request: Request, name: str) -> Response:
        all_ = served_here(sources, request, name)

        def document() -> dict[str, Any]:
            view = sources.history.view()
            return {
                one.target.version: overview.columns_of(sources, view, [one.target]) for one in all_
            }

        return JSONResponse(await asyncio.to_thread(document), headers=SAFE)


def _add_usage(router: APIRouter, sources: Sources, rendering: Rendering) -> None:
    @router.get("/usage")
    async def show(request: Request) -> Response:
        caller, now = rendering.caller_of(request), sources.wall_clock()
        keys = () if sources.gate is None else sources.gate.keys
        rows = usage_page.key_rows(keys, sources.accounts, caller, now=now)

        def render() -> str:
            first, today = day_of(now - (DAYS - 1) * 86_400), day_of(now)
            days = sources.usage.read(first, today) if sources.usage else ()
            spent = usage_page.spent(days, caller, today=today)
            facts = {"keys": rows, "spent": spent, "has_usage": sources.usage is not None}
            return rendering.text("usage.html", request, caller, days=DAYS, **facts)

        return rendering.respond(await asyncio.to_thread(render), request, caller)


def _add_faults(router: APIRouter, sources: Sources, rendering: Rendering) -> None:
    @router.get("/faults")
    async def show(request: Request) -> Response:
        caller = rendering.caller_of(request)
        down = faults_page.down(served_here(sources, request), sources)
        broker = sources.broker_events() if caller.may_read else {}
        payloads = sources.payloads if caller.may_read else None

        def render() -> str:
            facts = {
                "faults": faults_page.faults_of(sources, caller),
                "problems": faults_page.problems_of(sources.readings.codes(caller.may_see)),
                "most": MOST,
                "down": down,
                "kinds": faults_page.KINDS,
                "broker": broker,
                "payloads": payloads,
                "has_pools": sources.workers is None,
            }
            return rendering.text("faults.html", request, caller, **facts)

        return rendering.respond(await asyncio.to_thread(render), request, caller)
