"""What pages are made of: read on the event loop first, then put together in a thread."""

from __future__ import annotations

from typing import Any

from fastapi import Request

from modelyard.console import model_page, overview
from modelyard.console.caller import Caller
from modelyard.console.instance_form import fields_of
from modelyard.console.interfaces import Sources
from modelyard.console.snippets import snippets_of
from modelyard.core.errors import NO_MODEL, ModelNotFound, VersionNotFound
from modelyard.gateway.rules import seen


def served_here(sources: Sources, request: Request, name: str = "") -> list[overview.Served]:
    """Return the targets that a caller may see, or those of one model."""
    catalog = sources.catalog
    entries = catalog.versions(name) if name else seen(request, catalog.entries())
    if name and not entries:
        raise ModelNotFound(NO_MODEL)
    return [overview.served(entry, catalog, sources.workers) for entry in entries]


def chosen_version(all_: list[overview.Served], version: str) -> overview.Served:
    """Return one of a model's versions; the default one if none is named."""
    for one in all_:
        if one.target.version == version or (not version and one.is_default):
            return one
    raise VersionNotFound(f"{all_[0].target.name} has no version {version!r} that is served here")


def model_facts(
    sources: Sources,
    request: Request,
    caller: Caller,
    all_: list[overview.Served],
    one: overview.Served,
) -> dict[str, Any]:
    """Return what the page of a model shows."""
    view, name = sources.history.view(), one.target.name
    described = model_page.describe(one.known.schema, name)
    instances = described.example if isinstance(described.example, list) else []
    lately = view.window([one.target], overview.LATELY_S)
    hears = caller.may_hear(name)
    codes = sources.readings.codes(lambda model: model == name).get(one.target, {})
    return {
        "versions": all_,
        "one": one,
        "row": overview.row_of(one, view),
        "lately": lately,
        "split": model_page.split_of(sources, lately, one),
        "described": described,
        "fields": fields_of(described.input, instances[0] if instances else None),
        "instances": model_page.as_text(instances),
        "snippets": snippets_of(
            str(request.base_url).rstrip("/"),
            name,
            instances,
            wants_key=caller.is_guarded,
            gives_pieces=one.known.gives_pieces,
        ),
        "lines": sources.faults.lines(str(one.target)) if hears else [],
        "hears": hears,
        "has_pools": sources.workers is None,
        "reason": one.known.operator_reason if hears else one.known.reason,
        "drift": sources.drift(one.target),
        "codes": sorted(codes.items(), key=lambda pair: -pair[1]),
        "tried": None,
        "problem": "",
        "sent": {},
    }
