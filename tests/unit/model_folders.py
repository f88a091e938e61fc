"""Model folders that a test writes."""

from __future__ import annotations

from pathlib import Path

from modelyard.runner.host import HostedModel

MANIFEST = 'name = "m"\nversion = "1"\nclass = "model:Served"\n'

DOUBLES = """\
from modelyard import Model


class Served(Model):
    example = [1]

    def predict(self, instances: list[int]) -> list[int]:
        if 13 in instances:
            raise ValueError("unlucky")
        return [2 * number for number in instances]
"""


def predicting(body: str) -> str:
    """Give the code of a model whose ``predict`` is ``body``."""
    return (
        "from modelyard import Model\n\n"
        "class Served(Model):\n"
        f"    def predict(self, instances: list[int]) -> list[int]:\n        {body}\n"
    )


def write_folder(
    folder: Path,
    code: str,
    *,
    manifest: str = "",
    assets: dict[str, bytes] | None = None,
) -> Path:
    """Write a model folder; ``manifest`` is what follows name, version and class."""
    (folder / "src").mkdir(parents=True)
    (folder / "model.toml").write_text(MANIFEST + manifest)
    (folder / "src" / "model.py").write_text(code)
    for name, content in (assets or {}).items():
        path = folder / "assets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def host(folder: Path, code: str, manifest: str = "") -> HostedModel:
    """Write a model folder and load it."""
    return HostedModel.open(write_folder(folder / "m", code, manifest=manifest))
