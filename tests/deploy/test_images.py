"""The image of a model really builds, here and now, and is what the charts assume.

With buildah, in storage of its own, on ``build/python.tar``: a small Debian with a Python that
``make setup-test`` makes, and that stands in for the image which the Dockerfile names.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from modelyard import __version__
from tests.support.server import ROOT

BASE = ROOT / "build" / "python.tar"
MODEL = "fast_iris_model"
IMAGE = f"localhost/modelyard-model-fast-iris-model:{__version__}"
# What Docker would read of the repository, and the scripts.
SOURCES = (
    *("LICENSE", "README.md", "pyproject.toml", ".dockerignore"),
    *("deploy", "models", "requirements", "src"),
)
EPOCH_S = 1_700_000_000
PIP_SETTINGS = ("index-url", "proxy", "timeout", "trusted-host")


class Buildah:
    """Buildah as root, with all it keeps in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder, configuration = folder, folder / "storage.conf"
        lines = [f'{key} = "{folder / key}"' for key in ("runroot", "graphroot")]
        # No driver: overlay where that can be, else vfs.
        configuration.write_text("\n".join(["[storage]", 'driver = ""', *lines]) + "\n")
        self._command = [
            *([] if os.geteuid() == 0 else ["sudo", "-n"]),
            "env",
            f"PATH={os.environ['PATH']}",
            f"CONTAINERS_STORAGE_CONF={configuration}",
            f"SOURCE_DATE_EPOCH={EPOCH_S}",
        ]

    def run(self, *command: str | Path) -> str:
        """Run a command; gives what it printed."""
        done = subprocess.run(
            [*self._command, *map(str, command)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
        return done.stdout.strip()

    def __call__(self, *arguments: str | Path) -> str:
        """Run ``buildah``."""
        return self.run("buildah", *arguments)

    def close(self) -> subprocess.Popen[bytes]:
        """Leave nothing behind, mounted or kept; gives what removes its files, which takes long."""
        self("rm", "--all")
        self("umount", "--all")
        removal = ("rm", "-rf", "--one-file-system", str(self._folder))
        return subprocess.Popen([*self._command, *removal])


class Built(NamedTuple):
    """An image: its configuration, its layers, and what building it printed."""

    config: dict[str, Any]
    layers: list[str]
    said: str


class Images(NamedTuple):
    """The image, and the same after a change of the code."""

    buildah: Buildah
    first: Built
    second: Built


@pytest.fixture(scope="session")
def removals() -> Iterator[list[subprocess.Popen[bytes]]]:
    """What goes on beside other tests, but not for longer than they do."""
    removals: list[subprocess.Popen[bytes]] = []
    yield removals
    assert [one.wait() for one in removals] == [0] * len(removals)


@pytest.fixture(scope="module")
def images(
    tmp_path_factory: pytest.TempPathFactory, removals: list[subprocess.Popen[bytes]]
) -> Iterator[Images]:
    assert BASE.exists(), "make setup-test"
    folder = tmp_path_factory.mktemp("images")
    source = folder / "source"
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name)
        else:
            source.mkdir(exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    (folder / "storage").mkdir()
    buildah = Buildah(folder / "storage")
    try:
        base = buildah("from", "scratch")
        buildah("add", "--quiet", base, BASE, "/")
        buildah("commit", "--quiet", "--rm", base, "localhost/python:local")
        volumes = pip_volumes(folder)
        first = build(buildah, source, volumes)
        with (source / "src" / "modelyard" / "__init__.py").open("a") as code:
            code.write("# changed\n")
        yield Images(buildah, first, build(buildah, source, volumes))
    finally:
        removals.append(buildah.close())


def build(buildah: Buildah, source: Path, volumes: list[str]) -> Built:
    """Build it as a user would, but on the local base and with nothing pulled."""
    said = buildah.run(
        source / "models" / "build_model_images.sh",
        *("--model", MODEL, "--builder", "buildah", "--base", "localhost/python:local"),
        *("--", "--isolation", "chroot", "--pull-never", *volumes),
    )
    found = json.loads(buildah("inspect", "--type", "image", IMAGE))["Docker"]
    return Built(found["config"], found["rootfs"]["diff_ids"], said)


def pip_volumes(folder: Path) -> list[str]:
    """Give what lets pip reach an index as it does on this machine; no layer keeps it."""
    parser = ConfigParser(interpolation=None)
    home = Path.home()
    parser.read(["/etc/xdg/pip/pip.conf", "/etc/pip.conf", home / ".config" / "pip" / "pip.conf"])
    files = dict(parser["global"]) if parser.has_section("global") else {}
    set_here = {**files, **{key: value for key in (*PIP_SETTINGS, "cert") if (value := _env(key))}}
    kept = {key: set_here[key] for key in PIP_SETTINGS if key in set_here}
    volumes = []
    if "cert" in set_here:
        kept["cert"] = "/etc/index-ca.crt"
        volumes = ["--volume", f"{Path(set_here['cert']).resolve()}:/etc/index-ca.crt:ro"]
    configuration = folder / "pip.conf"
    configuration.write_text("\n".join(["[global]", *(f"{k} = {v}" for k, v in kept.items())]))
    return [*volumes, "--volume", f"{configuration}:/etc/pip.conf:ro"]


def _env(key: str) -> str | None:
    return os.environ.get(f"PIP_{key.replace('-', '_').upper()}")


def test_it_says_what_it_is_and_runs_as_nobody(images: Images) -> None:
    config = images.first.config
    labels = {
        key.removeprefix("org.opencontainers.image."): value
        for key, value in config["Labels"].items()
    }
    assert labels["title"] == f"modelyard-model-{MODEL}"
    assert labels["version"] == __version__
    assert labels["licenses"] == "Apache-2.0"
    assert labels["created"] == "2023-11-14T22:13:20Z"
    assert {"description", "revision", "source"} <= labels.keys()
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["modelyard"]
    assert config["Cmd"] == ["worker", "/opt/model"]
    assert "/healthz" in config["Healthcheck"]["Test"][-1]


def test_nothing_that_builds_is_left_in_it(images: Images) -> None:
    container = images.buildah("from", "--pull-never", IMAGE)
    root = images.buildah("mount", container)
    found = images.buildah.run("find", root, "-xdev").splitlines()
    paths = [path.removeprefix(root) for path in found]
    assert {"/opt/model/model.toml", "/opt/model/assets/iris.onnx", "/opt/app/bin/modelyard"} <= {
        *paths
    }
    left = r"/build(/|$)|/(tmp|root/\.cache)/.|/etc/(pip\.conf|index-ca\.crt)$|/(gcc|cc|ld)$"
    of_the_model = r"/opt/model/(k8s|tests)"
    of_pip = r"/opt/modelyard/(bin/pip|.*/site-packages/pip(/|$))"
    unwanted = re.compile(f"^({left}|{of_the_model}|{of_pip})")
    assert [path for path in paths if unwanted.search(path)] == []


def test_it_runs_without_root(images: Images) -> None:
    container = images.buildah("from", "--pull-never", IMAGE)
    script = "import os, numpy, onnxruntime; print(os.getuid(), os.getgid())"
    run = ("run", "--isolation", "chroot", container, "--")
    assert images.buildah(*run, "python3", "-c", script) == "10001 10001"
    assert images.buildah(*run, "modelyard", "--version") == f"modelyard {__version__}"


def test_new_code_leaves_the_layer_of_the_dependencies(images: Images) -> None:
    first, second = images.first, images.second
    assert re.search(r"RUN touch requirements\.txt .*\n(?!--> Using cache)", first.said)
    assert re.search(r"RUN touch requirements\.txt .*\n--> Using cache", second.said)
    assert "Successfully installed numpy" not in second.said
    assert len(first.layers) == len(second.layers)
    changed = [a != b for a, b in zip(first.layers, second.layers, strict=True)]
    # The base, the dependencies; then the code; then the model, which is what it was.
    assert changed[:2] == [False, False]
    assert changed.count(True) == 1


def test_an_image_of_ones_own_needs_no_repository(images: Images, tmp_path: Path) -> None:
    modelyard = Path(sys.executable).with_name("modelyard")
    images.buildah.run(modelyard, "new", "sentiment", "--into", tmp_path)
    images.buildah.run(
        *(modelyard, "build", tmp_path / "sentiment", "--tag", "localhost/sentiment:1"),
        *("--builder", "buildah", "--base", "localhost/python:local"),
        *("--", "--isolation", "chroot", "--pull-never", *pip_volumes(tmp_path)),
    )
    container = images.buildah("from", "--pull-never", "localhost/sentiment:1")
    run = ("run", "--isolation", "chroot", container, "--")
    assert images.buildah(*run, "modelyard", "--version") == f"modelyard {__version__}"
    assert "sentiment/1" in images.buildah(*run, "modelyard", "check", "/opt/model")
