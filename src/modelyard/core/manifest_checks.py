"""What no type of a key in ``model.toml`` says: keys that do not fit each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from modelyard.core.signature import Signature

if TYPE_CHECKING:
    from modelyard.core.manifest import Manifest


def contradictions(manifest: Manifest) -> Iterator[tuple[list[str], str]]:
    """Give each key that does not fit the others, and what is wrong."""
    if manifest.class_ is None and manifest.runtime is None:
        yield (
            ["class"],
            'class: it is missing; expected class = "module:Class", for example "model:FastIris" '
            'for src/model.py; or, for an artefact without a class, runtime = "onnx" or the like',
        )
    if manifest.class_ is not None and manifest.runtime is not None:
        yield ["runtime"], "runtime: class is there too; a model has one of them"
    if manifest.runtime is None and manifest.artefact:
        yield ["artefact"], "artefact: it belongs to a runtime; a class reads self.assets"
    if manifest.runtime is None and manifest.signature != Signature():
        yield ["signature"], "signature: it belongs to a runtime; a class has annotations"
    if manifest.scaling.max_runners < manifest.scaling.min_runners:
        yield ["scaling", "max_runners"], "max_runners: expected at least min_runners"
    if manifest.name in manifest.calls.models:
        yield ["calls", "models"], "calls: a model cannot call itself"
    both = sorted(set(manifest.environment.variables) & set(manifest.environment.secrets))
    if both:
        yield (
            ["environment", "variables", both[0]],
            f"environment: {both[0]} is both a variable and a secret",
        )
