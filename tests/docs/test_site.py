"""The site builds, has every page in its navigation, and no link that leads nowhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from tests.docs.pages import DOCS
from tests.e2e.test_docs_page import rendered
from tests.support.server import ROOT

FETCHED = re.compile(
    r'<(?:script|img|iframe)[^>]+src="?https?:[^>]+|<link[^>]+stylesheet[^>]+https?:'
)
ZENSICAL = Path(sys.executable).with_name("zensical")


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ZENSICAL, "build", "--strict"], cwd=folder, capture_output=True, text=True, check=False
    )


def copy_site(folder: Path) -> None:
    shutil.copytree(DOCS, folder / "docs")
    shutil.copy(ROOT / "zensical.toml", folder)


def test_the_site_is_built_without_a_broken_link(tmp_path: Path) -> None:
    copy_site(tmp_path)
    built = build(tmp_path)
    assert built.returncode == 0, built.stdout + built.stderr


def test_a_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    copy_site(tmp_path)
    assert build(tmp_path).returncode == 0
    page = rendered((tmp_path / "build" / "docs" / "errors.html").as_uri(), tmp_path / "profile")
    assert 'id="model_crashed"' in page
    assert not FETCHED.findall(page)  # what scripts have added is in it too


def test_a_broken_anchor_stops_the_build(tmp_path: Path) -> None:
    copy_site(tmp_path)
    (tmp_path / "docs" / "index.md").write_text("# Here\n\n[there](errors.md#no_such_code)\n")
    built = build(tmp_path)
    assert built.returncode != 0
    assert "index.md" in built.stdout + built.stderr


def test_every_page_is_in_the_navigation() -> None:
    config = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    assert set(paths_in(config["project"]["nav"])) == pages


def paths_in(navigation: list[dict[str, Any]]) -> list[str]:
    """Give the pages of a navigation, which may hold others."""
    found: list[str] = []
    for entry in navigation:
        for value in entry.values():
            found += [value] if isinstance(value, str) else paths_in(value)
    return found
