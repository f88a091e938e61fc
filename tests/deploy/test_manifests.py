"""The plain files in the repository are what the charts render."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.deploy.charts import HELM
from tests.support.server import ROOT

RENDERED_BY = "# Rendered from deploy/charts/"


def test_they_have_not_drifted(tmp_path: Path) -> None:
    subprocess.run(
        [ROOT / "deploy" / "manifests.sh", tmp_path],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "HELM": str(HELM)},
    )
    rendered = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*.yaml")}
    folders = [ROOT / "k8s-config", ROOT / "app", ROOT / "models"]
    committed = {
        path.relative_to(ROOT): text
        for folder in folders
        for path in folder.rglob("*.yaml")
        if (text := path.read_text()).startswith(RENDERED_BY)
    }
    assert rendered == committed, "run make manifests"
