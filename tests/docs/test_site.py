"""The site builds, has every page in its navigation, no link that leads nowhere, and search."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from deploy.docs.versions import add_release
from tests.docs.pages import DOCS
from tests.e2e.test_docs_page import rendered
from tests.support.browser import Browser
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


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site; a link that leads nowhere would have stopped it."""
    folder = tmp_path_factory.mktemp("site")
    copy_site(folder)
    done = build(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "build" / "docs"


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder as any server of files would."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_page_needs_nothing_from_elsewhere(built: Path, tmp_path: Path) -> None:
    page = rendered((built / "errors.html").as_uri(), tmp_path / "profile")
    assert 'id="model_crashed"' in page
    assert not FETCHED.findall(page)  # what scripts have added is in it too


def test_search_works_in_pages_opened_as_files(built: Path) -> None:
    with Browser() as browser:
        page = browser.open(built.as_uri())
        page.goto((built / "adr" / "0003-errors-are-one-tree.html").as_uri())
        page.keyboard.press("/")
        page.keyboard.type("segmentation")
        expect(page.get_by_text(re.compile(r"^\d+ results?$"))).to_be_visible(timeout=60_000)
        page.keyboard.press("Enter")
        page.wait_for_url("**/errors.html#model_crashed")
        assert not [one for one in browser.complaints if " asked " in one]


def test_releases_are_beside_each_other_and_search_needs_no_internet(
    built: Path, tmp_path: Path
) -> None:
    for version in ("0.9.0", "0.10.0", "0.11.0rc1"):
        add_release(built, tmp_path, version)
    told = json.loads((tmp_path / "versions.json").read_text())
    assert [one["version"] for one in told] == ["0.11.0rc1", "0.10.0", "0.9.0"]
    assert [one["version"] for one in told if one["aliases"] == ["latest"]] == ["0.10.0"]
    with served(tmp_path) as url, Browser() as browser:
        page = browser.open(url)
        page.goto("/")
        page.wait_for_url("**/latest/index.html")
        page.goto("/0.9.0/errors.html")
        expect(page.locator(".md-version__link")).to_have_text(["0.11.0rc1", "0.10.0", "0.9.0"])
        page.keyboard.press("/")
        page.keyboard.type("segmentation")
        expect(page.get_by_text(re.compile(r"^\d+ results?$"))).to_be_visible()
        assert not browser.complaints  # nothing was fetched from elsewhere


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
