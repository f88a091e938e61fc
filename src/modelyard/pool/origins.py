"""What a runner is told of where its requests come from."""

from __future__ import annotations

from modelyard.core.call import Call
from modelyard.core.manifest import Manifest
from modelyard.core.messages import Origin
from modelyard.core.trail import Trail
from modelyard.pool.spans import PoolSpans
from modelyard.pool.specials import Specials


def origins_of(
    batch: list[Call], manifest: Manifest, spans: PoolSpans | None, specials: Specials
) -> list[Origin]:
    """Return the origin of each request of a batch that a runner is about to get, for a model that
    calls others, for traces and for jobs with errands; else nothing.
    """
    calls = manifest.calls.models
    if not calls and spans is None and not specials.errands_open:
        return []
    trails = [call.request.trail for call in batch] if spans is None else spans.begin(batch)
    if not calls and not any(trails):
        return []
    own = Trail(manifest.name if calls else "")
    return [
        Origin(call.request.id, call.request.deadline, call.request.priority, trail or own)
        for call, trail in zip(batch, trails, strict=True)
    ]
