"""The scripts that build and pin, as far as they go without a registry."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.server import ROOT

TOOLS = Path(sys.executable).parent
SCRIPTS = sorted(
    path
    for pattern in ("*.sh", "models/*.sh", "deploy/*.sh", ".ci/run")
    for path in ROOT.glob(pattern)
)
DOCKERFILES = [ROOT / "app" / "Dockerfile", ROOT / "models" / "Dockerfile"]


def run(*command: str | Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command; ``path`` goes before PATH."""
    environment = {**os.environ, "RETRY_S": "0"}
    if path is not None:
        environment["PATH"] = f"{path}:{environment['PATH']}"
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, env=environment
    )


def test_shellcheck_finds_nothing() -> None:
    assert len(SCRIPTS) >= 6
    done = run(TOOLS / "shellcheck", *SCRIPTS)
    assert done.returncode == 0, done.stdout


def test_hadolint_finds_nothing() -> None:
    done = run(TOOLS / "hadolint", *DOCKERFILES)
    assert done.returncode == 0, done.stdout


def test_both_dockerfiles_name_the_same_base_by_digest() -> None:
    lines = [
        next(line for line in path.read_text().splitlines() if line.startswith("ARG PYTHON_IMAGE="))
        for path in DOCKERFILES
    ]
    assert len(set(lines)) == 1
    assert "@sha256:" in lines[0]


@pytest.mark.parametrize(
    ("requirements", "has_lock", "code"),
    [
        (None, False, 0),
        ("# nothing\n\n  # at all\n", False, 0),
        ("numpy\n", True, 0),
        ("# for the arrays\n numpy\n", False, 1),
    ],
)
def test_requirements_without_a_lock_build_no_image(
    tmp_path: Path, requirements: str | None, has_lock: bool, code: int
) -> None:
    text = DOCKERFILES[1].read_text().replace("\\\n", " ")
    found = re.search(r"^RUN (touch requirements\.txt.*?) && touch requirements\.lock", text, re.M)
    assert found
    if requirements is not None:
        (tmp_path / "requirements.txt").write_text(requirements)
    if has_lock:
        (tmp_path / "requirements.lock").touch()
    done = subprocess.run(
        ["sh", "-c", found[1]],
        cwd=tmp_path,
        env={"MODEL": "iris"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == code
    assert (b"models/iris has a requirements.txt and no requirements.lock" in done.stderr) == code


@pytest.mark.parametrize(
    ("flags", "locks"),
    [(["MODEL=fast_iris_model"], {"fast_iris_model"}), ([], {"fast", "intermediate", "slow"})],
)
def test_one_models_requirements_are_pinned_alone(
    tmp_path: Path, flags: list[str], locks: set[str]
) -> None:
    uv, log = tmp_path / "uv", tmp_path / "log"
    uv.write_text(f'#!/bin/sh\necho "$@" >>"{log}"\n')
    uv.chmod(0o755)
    done = run("make", "-C", ROOT, "lock", *flags, path=tmp_path)
    assert done.returncode == 0, done.stderr
    written = re.findall(r" -o (\S+)$", log.read_text(), re.MULTILINE)
    models = {one.split("/")[1] for one in written if one.startswith("models/")}
    assert models == {one if "_" in one else f"{one}_iris_model" for one in locks}
    assert ("requirements/run.txt" in written) == (not flags)


def test_a_model_without_requirements_has_nothing_to_pin(tmp_path: Path) -> None:
    (tmp_path / "uv").write_text("#!/bin/sh\n")
    (tmp_path / "uv").chmod(0o755)
    done = run("make", "-C", ROOT, "lock", "MODEL=none", path=tmp_path)
    assert done.returncode != 0
    assert "models/none/requirements.txt: there is no such file" in done.stderr


def test_every_model_is_found_and_built() -> None:
    done = run(
        ROOT / "models" / "build_model_images.sh",
        *("--registry", "example.com/ml", "--tag", "7", "--builder", "buildah"),
        *("--base", "localhost/python", "--push", "--dry-run", "--", "--isolation", "chroot"),
    )
    assert done.returncode == 0, done.stderr
    for manifest in ROOT.glob("models/*/model.toml"):
        folder = manifest.parent.name
        image = f"example.com/ml/modelyard-model-{folder.replace('_', '-')}:7"
        assert f"--build-arg MODEL={folder} " in done.stdout
        assert f"--tag {image} --isolation chroot ." in done.stdout
        assert f"+ buildah push {image}\n" in done.stdout
    assert done.stdout.count("--build-arg PYTHON_IMAGE=localhost/python") == 3


@pytest.mark.parametrize("lock", sorted(ROOT.glob("requirements/runtimes/*.txt")))
def test_each_runtime_has_an_image(lock: Path) -> None:
    build = (ROOT / "build_app_images.sh", "--runtime", lock.stem, "--dry-run")
    done = run(*build, "--builder", "buildah")
    assert done.returncode == 0, done.stderr
    assert f"--build-arg RUNTIME={lock.stem} " in done.stdout
    assert f"--tag localhost/modelyard-runtime-{lock.stem}:" in done.stdout


def test_a_runtime_that_is_none_is_named() -> None:
    done = run(ROOT / "build_app_images.sh", "--runtime", "cobol", "--dry-run")
    assert done.returncode == 2
    assert "--runtime: one of lightgbm onnx sklearn xgboost" in done.stderr


@pytest.mark.parametrize("builder", ["podman", "buildah"])
def test_layers_are_kept_for_the_next_build(builder: str) -> None:
    done = run(ROOT / "build_app_images.sh", "--dry-run", "--builder", builder)
    assert done.returncode == 0, done.stderr
    assert " --layers " in done.stdout


@pytest.mark.parametrize(
    ("builder", "expected"),
    [
        ("docker", "--output type=image\\,push=true\\,rewrite-timestamp=true"),
        ("podman", "+ podman manifest push --all localhost/modelyard-gateway:0.1.0"),
    ],
)
def test_several_architectures_are_pushed_as_one(builder: str, expected: str) -> None:
    done = run(
        ROOT / "build_app_images.sh",
        *("--registry", "localhost", "--dry-run", "--push"),
        *("--builder", builder, "--platform", "linux/amd64,linux/arm64"),
    )
    assert done.returncode == 0, done.stderr
    assert "--platform linux/amd64\\,linux/arm64" in done.stdout
    assert expected in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tagg", "1"], "unknown argument: --tagg"),
        (["--tag"], "--tag needs a value"),
        (["--builder", "kaniko"], "unknown builder: kaniko"),
        (["--builder", "docker", "--platform", "a,b"], "one platform at a time"),
    ],
)
def test_a_mistake_is_named(arguments: list[str], message: str) -> None:
    done = run(ROOT / "build_app_images.sh", "--dry-run", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
