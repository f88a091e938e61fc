"""``new``, ``check``, ``test`` and ``build``: commands of who writes models."""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from modelyard.cli.mistakes import UsageError, warn
from modelyard.folder import (
    MANIFEST,
    find_models,
    is_bare,
    read_manifest,
    read_manifests,
    set_aside_copies,
)
from modelyard.scaffold import EXAMPLE, wrap_artefact, write_model
from modelyard.settings import load_settings


def new(options: argparse.Namespace) -> None:
    """Write a model folder, and say what comes next: each command works as it is printed."""
    command, name = _own_command(), options.name
    ask = f"{command} predict {name} '{EXAMPLE}'"
    if options.source is None:
        folder = write_model(name, options.into)
        wrote = "model.toml, src/model.py, assets/, requirements.txt, tests/"
    else:
        source, *_ = find_models([options.source])
        runtime = read_manifest(source).runtime
        if runtime is None or not is_bare(source):
            raise UsageError(f"{options.source} is no artefact, but a folder of models")
        folder = wrap_artefact(name, options.into, source, runtime)
        wrote = "model.toml, assets/, requirements.txt, tests/"
        ask = f"{command} example {name} | {command} predict {name} -"
    lines = [
        f"wrote {folder}: {wrote}",
        "",
        "Next:",
        f"  {command} check {folder}",
        *([] if _has_pytest() else [f"  {_install('pytest')}"]),
        f"  {command} test {folder}",
        f"  {command} serve {folder}",
        "From another terminal:",
        f"  {ask}",
        "",
        "As a container image, for a cluster:",
        f"  {command} build {folder}",
        "Through a RabbitMQ on this machine, each from a terminal of its own:",
        f"  {command} gateway",
        f"  {command} worker {folder} --port 8001",
    ]
    print("\n".join(lines))


def check(options: argparse.Namespace) -> int:
    """Look at models as `serve` would; returns 1 if one of them cannot be served."""
    from modelyard.check import check_model
    from modelyard.compose.launching import make_equipper

    has_failed = False
    equipper = make_equipper(load_settings({}), [])
    folders = find_models(options.folders)
    _, copies = set_aside_copies(read_manifests(folders)[0])
    clashes = {one.folder: one for one in copies}
    for folder in folders:
        print(os.path.relpath(folder))
        if (clash := clashes.get(folder)) is not None:
            print(f"  failed  name          {clash.error}", flush=True)
            has_failed = True
        for finding in check_model(folder, equipper):
            print(f"  {finding.state:6}  {finding.what:12}  {finding.text}", flush=True)
            for line in finding.details:
                print(f"    | {line}")
            has_failed |= finding.state == "failed"
    return int(has_failed)


def test(options: argparse.Namespace) -> int:
    """Run a model's tests with pytest; returns its exit code.

    With the folder's own settings of pytest or with none: those of a project around it may ask for
    plugins that are not here.
    """
    folder: Path = options.folder
    tests = folder / "tests"
    if not (folder / MANIFEST).is_file() or not tests.is_dir():
        raise UsageError(f"{folder} is no model's folder with tests/ in it")
    if not _has_pytest():
        raise UsageError(f"pytest is not installed: {_install('pytest')}")
    own = (folder / name for name in ("pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg"))
    settings = next((path for path in own if path.is_file()), os.devnull)
    where = ("-c", str(settings), "--rootdir", str(folder), "--confcutdir", str(folder))
    how = ("--import-mode=importlib", "-p", "no:cacheprovider")
    command = [sys.executable, "-m", "pytest", *where, *how, *options.rest, str(tests)]
    return subprocess.run(command, check=False).returncode


def build(options: argparse.Namespace) -> None:
    """Build an image of a model, or write what a builder needs."""
    from modelyard.image.builder import build_image, find_builder
    from modelyard.image.context import dockerfile_of, image_of, write_context

    if not (options.folder / MANIFEST).is_file():
        raise UsageError(f"{options.folder} is no model's folder: it has no {MANIFEST}")
    folder = options.folder.resolve()
    manifest = read_manifest(folder)
    if options.dockerfile_only:
        print(dockerfile_of(manifest, base=options.base), end="")
        return
    tag = options.tag or f"{image_of(manifest)}:{manifest.version}"
    builder = None if options.context else options.builder or find_builder()
    with tempfile.TemporaryDirectory(prefix="modelyard-build-") as temporary:
        into = options.context or Path(temporary, "context")
        try:
            into.mkdir(parents=True)
        except OSError as error:
            raise UsageError(f"{into} cannot be made: {error.strerror or error}") from error
        context = write_context(
            folder, manifest, into=into, base=options.base, is_kept=builder is None
        )
        if context.lock:
            warn(f"wrote {os.path.relpath(context.lock)}: keep it, it pins what the model needs")
        if builder is None:
            print(f"wrote {into}; build it with: docker build --tag {tag} {into}")
            return
        build_image(context, tag=tag, builder=builder, platform=options.platform, more=options.rest)
    print(f"built {tag}")
    if builder != "buildah":
        print(f"next:  {builder} run --rm -p 8000:8000 {tag} serve /opt/model")


def _own_command() -> str:
    """Return what starts this program from here: its name, if that finds it."""
    name, started_as = "modelyard", Path(sys.argv[0])
    if started_as.name == "__main__.py":
        return f"{_python()} -m modelyard"
    found = shutil.which(name)
    if found and Path(found).resolve() == started_as.resolve():
        return name
    return str(started_as)


def _python() -> str:
    """Return what starts this Python from here."""
    for name in ("python", "python3"):
        if (found := shutil.which(name)) and Path(found) == Path(sys.executable):
            return name
    path = os.path.relpath(sys.executable)
    return sys.executable if path.startswith("..") else path


def _has_pytest() -> bool:
    return importlib.util.find_spec("pytest") is not None


def _install(package: str) -> str:
    """Return the command that installs a package beside Modelyard."""
    if importlib.util.find_spec("pip") is None and shutil.which("uv"):
        return f"uv pip install --python {_python()} {package}"
    return f"{_python()} -m pip install {package}"
