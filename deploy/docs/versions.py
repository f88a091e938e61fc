"""Puts a built documentation beside those of other releases: a folder each, and ``latest``.

``python -m deploy.docs.versions BUILT SITE VERSION``. The selector of versions reads what the tool
``mike`` would write, ``versions.json``; that tool itself keeps sites in a branch of Git.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from packaging.version import InvalidVersion, Version

LATEST = "latest"
_TO_LATEST = """\
<!doctype html>
<meta charset="utf-8">
<title>Modelyard</title>
<meta http-equiv="refresh" content="0; url=latest/index.html">
<a href="latest/index.html">The documentation of the latest release</a>
"""


def add_release(built: Path, site: Path, version: str) -> None:
    """Add a release to a site, in place of what it has of the same one."""
    Version(version)
    _replace(built, site / version)
    releases = sorted(filter(_is_version, (one.name for one in site.iterdir())), key=Version)
    finals = [one for one in releases if not Version(one).is_prerelease]
    newest = (finals or releases)[-1]
    _replace(site / newest, site / LATEST)
    told = [
        {"version": one, "title": one, "aliases": [LATEST] if one == newest else []}
        for one in reversed(releases)
    ]
    (site / "versions.json").write_text(json.dumps(told, indent=2) + "\n")
    (site / "index.html").write_text(_TO_LATEST)


def _replace(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)


def _is_version(name: str) -> bool:
    try:
        Version(name)
    except InvalidVersion:
        return False
    return True


if __name__ == "__main__":
    add_release(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
