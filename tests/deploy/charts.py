"""Renders the charts with the helm that is pinned."""

from __future__ import annotations

import copy
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.support.server import ROOT

HELM = Path(sys.executable).with_name("helm")
CHARTS = ROOT / "deploy" / "charts"
PLATFORM, MODEL = CHARTS / "modelyard", CHARTS / "modelyard-model"

CASES = [
    (chart, values)
    for chart in (PLATFORM, MODEL)
    for values in (None, *sorted((chart / "ci").glob("*.yaml")))
]
"""Each chart with its defaults, and with each file in its ``ci/``."""

CASE_NAMES = [f"{chart.name}-{values.stem if values else 'defaults'}" for chart, values in CASES]

Manifest = dict[str, Any]


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run helm."""
    assert HELM.exists(), "make setup-deploy"
    return subprocess.run(
        [HELM, *map(str, arguments)], capture_output=True, text=True, check=False, cwd=ROOT
    )


def render(chart: Path, *arguments: str | Path, release: str = "modelyard") -> list[Manifest]:
    """Give what ``helm template`` prints, tests included."""
    return copy.deepcopy(_render(chart, *arguments, release=release))


@cache
def _render(chart: Path, *arguments: str | Path, release: str) -> list[Manifest]:
    done = helm("template", release, chart, "--namespace", "modelyard", *arguments)
    assert done.returncode == 0, done.stderr
    return parse(done.stdout)


def render_case(chart: Path, values: Path | None) -> list[Manifest]:
    """Give a chart with its defaults, or with a file of values."""
    return render(chart, "--values", values) if values else render(chart)


def parse(text: str) -> list[Manifest]:
    """Give the documents of a YAML file."""
    return [document for document in yaml.load_all(text, yaml.CSafeLoader) if document]


def only(manifests: list[Manifest], kind: str, name: str = "") -> Manifest:
    """Give the one manifest of this kind, and of this name if there are several."""
    (found,) = [
        manifest
        for manifest in manifests
        if manifest["kind"] == kind and name in ("", manifest["metadata"]["name"])
    ]
    return found
