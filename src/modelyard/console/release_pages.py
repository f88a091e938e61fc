"""The pages of releases: routes as they are, a model's versions side by side, and one change."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from modelyard.console.interfaces import Release, Releases, Sources
from modelyard.console.overview import Served, row_of, served
from modelyard.console.paging import paged
from modelyard.console.releasing import Released, confirmed, encode, propose, released
from modelyard.console.rendering import Rendering
from modelyard.console.sent_form import read_form, see_other
from modelyard.core.errors import NO_MODEL, ModelNotFound
from modelyard.gateway.rules import seen
from modelyard.gateway.sessions import PATH
from modelyard.telemetry.history import View

ACTS = 50
LONGEST_WHY = 500


def add_releases(router: APIRouter, sources: Sources, rendering: Rendering) -> None:
    """Add the routes."""
    _add_looking(router, sources, rendering)
    if (releases := sources.releases) is not None:
        _add_changing(router, sources, rendering, releases)


def _add_looking(router: APIRouter, sources: Sources, rendering: Rendering) -> None:
    @router.get("/releases")
    async def show_all(request: Request, q: str = "", page: int = 1) -> Response:
        caller = rendering.caller_of(request)
        names = dict.fromkeys(e.target.name for e in seen(request, sources.catalog.entries()))
        wanted = q.strip().lower()
        models = {name: _versions(sources, name) for name in names if wanted in name}

        def render() -> str:
            view = sources.history.view()
            known = {one.model: one for one in sources.releases.all()} if sources.releases else {}
            found = [
                _released(sources, known.get(name, Release(name)), versions, view)
                for name, versions in models.items()
            ]
            found.sort(key=lambda one: (not one.is_spread, one.release.route is None))
            facts = {
                "page": paged(found, page, total=len(names)),
                "wanted": q,
                "can_release": sources.releases is not None,
            }
            return rendering.text("releases.html", request, caller, **facts)

        return rendering.respond(await asyncio.to_thread(render), request, caller)

    @router.get("/releases/{name}")
    async def show(request: Request, name: str) -> Response:
        caller, versions = rendering.caller_of(request), _versions(sources, name)
        if not versions:
            raise ModelNotFound(NO_MODEL)

        def render() -> str:
            releases = sources.releases
            release = releases.find(name) if releases else Release(name)
            found = _released(sources, release, versions, sources.history.view())
            acts = releases.acts(name, ACTS) if releases else ()
            facts = {"released": found, "acts": acts, "can_release": releases is not None}
            return rendering.text("release.html", request, caller, **facts)

        return rendering.respond(await asyncio.to_thread(render), request, caller)


def _add_changing(
    router: APIRouter, sources: Sources, rendering: Rendering, releases: Releases
) -> None:
    @router.get("/releases/{name}/change")
    async def ask(request: Request, name: str) -> Response:
        caller, versions = rendering.caller_of(request), _versions(sources, name)
        if not versions:
            raise ModelNotFound(NO_MODEL)
        caller.check_release(name)

        def render() -> str:
            known = {one.target.version for one in versions}
            proposal = propose(releases.find(name), dict(request.query_params), known)
            text = encode(proposal.route)
            return rendering.text("change.html", request, caller, proposal=proposal, route=text)

        return rendering.respond(await asyncio.to_thread(render), request, caller)

    @router.post("/releases/{name}/change")
    async def change(request: Request, name: str) -> Response:
        sent = await read_form(request)
        caller = rendering.caller_of(request)
        caller.check_release(name)
        known = {one.target.version for one in _versions(sources, name)}
        if not known:
            raise ModelNotFound(NO_MODEL)

        def act() -> None:
            was = releases.find(name)
            new = confirmed(was, sent, known)
            why = sent.get("why", "").strip()[:LONGEST_WHY]
            releases.change(was, new, actor=caller.name, why=why)

        await asyncio.to_thread(act)
        return see_other(f"{PATH}/releases/{name}")


def _versions(sources: Sources, name: str) -> list[Served]:
    catalog = sources.catalog
    return [served(entry, catalog, sources.workers) for entry in catalog.versions(name)]


def _released(sources: Sources, release: Release, versions: list[Served], view: View) -> Released:
    routed = sources.catalog.router.find(release.model)
    taken_out = {} if routed is None else dict(routed.taken_out)
    return released(release, [row_of(one, view) for one in versions], taken_out)
