"""What a runner is told of where its requests come from."""

from __future__ import annotations

import math

from modelyard.core.call import Call
from modelyard.core.manifest import Manifest
from modelyard.core.messages import Origin, Request
from modelyard.core.trail import Trail
from modelyard.pool.spans import PoolSpans
from modelyard.pool.specials import Specials

_UNSAID = Origin("", math.inf, "normal", Trail(""))
"""Of a request that has no trail, beside one that has."""


def origins_of(
    batch: list[Call], manifest: Manifest, spans: PoolSpans | None, specials: Specials
) -> list[Origin]:
    """Return the origin of each request of a batch that a runner is about to get, for a model that
    calls others, for traces and for jobs with errands; else nothing.
    """
    calls = manifest.calls.models
    if not calls and spans is None and not specials.errands_open:
        return []
    trails = [call.request.trail for call in batch]
    if not calls and not any(trails):
        return []
    if spans is not None:
        trails = spans.begin(batch)
    own = Trail(manifest.name) if calls else None
    return [
        _UNSAID if (said := trail or own) is None else _origin_of(call.request, said)
        for call, trail in zip(batch, trails, strict=True)
    ]


def _origin_of(request: Request, trail: Trail) -> Origin:
    return Origin(request.id, request.deadline, request.priority, trail)
