"""Models that would wait for themselves, by what their ``[calls]`` name."""

from __future__ import annotations

from pathlib import Path

from modelyard.core.manifest import Manifest, ManifestError
from modelyard.core.trail import find_circle
from modelyard.folder import MANIFEST, Unusable


def set_aside_circles(
    models: list[tuple[Path, Manifest]],
) -> tuple[list[tuple[Path, Manifest]], list[Unusable]]:
    """Return the models, and beside them those that call each other in a circle."""
    calls: dict[str, set[str]] = {}
    for _, manifest in models:
        calls.setdefault(manifest.name, set()).update(manifest.calls.models)
    kept, circling = [], []
    for folder, manifest in models:
        circle = find_circle(manifest.name, calls) if manifest.calls.models else []
        if not circle:
            kept.append((folder, manifest))
            continue
        text = f"{folder.name}/{MANIFEST}: models call each other in a circle, each would wait for "
        text += f"itself: {' → '.join(circle)}; take one of them out of [calls] models"
        circling.append(Unusable(folder, manifest.target, ManifestError(text)))
    return kept, circling
