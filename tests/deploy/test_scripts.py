"""The scripts that build and install, as far as they go without a registry and a cluster."""

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
INSTALL = ROOT / "deploy" / "install.sh"


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


_KUBECTL = """\
#!/bin/sh
echo "$@" >>"{log}"
case "$*" in
  "get crd/users.rabbitmq.com "*) [ ! -f "{foreign}" ] || echo '{{"manager": "helm"}}' ;;
  *"get secret "*) [ -f "{secret}" ] || exit 1 ;;
  *"apply "*cert-manager*) if [ -f "{broken}" ]; then rm "{broken}"; exit 1; fi ;;
  "create "*) cat >"{secret}" ;;
  *"--filename -") cat >/dev/null ;;
esac
"""


class FakeCluster:
    """A kubectl that notes what it is asked."""

    def __init__(self, folder: Path) -> None:
        self.log, self.secret = folder / "log", folder / "secret"
        self.foreign, self.broken = folder / "foreign", folder / "broken"
        self._bin = folder / "bin"
        self._bin.mkdir()
        script = _KUBECTL.format(**{k: v for k, v in vars(self).items() if k[0] != "_"})
        (self._bin / "kubectl").write_text(script)
        (self._bin / "kubectl").chmod(0o755)

    def install(self, *arguments: str) -> list[str]:
        """Run the script; give the calls of kubectl."""
        self.log.write_text("")
        done = run(INSTALL, *arguments, path=self._bin)
        assert done.returncode == 0, done.stderr
        return self.log.read_text().splitlines()


@pytest.fixture
def cluster(tmp_path: Path) -> FakeCluster:
    return FakeCluster(tmp_path)


def test_a_dry_run_touches_nothing_and_says_all(cluster: FakeCluster) -> None:
    assert cluster.install("--dry-run", "--keda") == []
    said = run(INSTALL, "--dry-run", "--keda").stdout
    for part in ("cert-manager", "Cluster Operator", "Topology", "Metrics", "KEDA", "Namespace"):
        assert f"== {part}" in said or f" {part}" in said


def test_each_part_is_waited_for_before_the_next(cluster: FakeCluster) -> None:
    calls = cluster.install("--timeout", "7")
    verbs = [call for call in calls if call.startswith("apply ") or " wait " in call]
    assert len(verbs) == 9  # four parts, and the namespace, which is there at once
    for apply, wait in zip(verbs[0:8:2], verbs[1:8:2], strict=True):
        assert apply.startswith("apply --server-side")
        assert wait.endswith("--timeout=7s")
    assert not [call for call in calls if "keda" in call or "latest" in call]


def test_a_second_run_keeps_the_password(cluster: FakeCluster) -> None:
    assert [call for call in cluster.install() if call.startswith("create ")]
    password = cluster.secret.read_text()
    assert "user modelyard on >" in password
    assert not [call for call in cluster.install() if call.startswith("create ")]
    assert cluster.secret.read_text() == password


def test_what_is_not_from_here_is_left_alone(cluster: FakeCluster) -> None:
    cluster.foreign.touch()
    assert not [call for call in cluster.install() if "topology" in call]


def test_what_fails_for_a_moment_is_tried_again(cluster: FakeCluster) -> None:
    cluster.broken.touch()
    tries = [call for call in cluster.install() if "apply" in call and "cert-manager.yaml" in call]
    assert len(tries) == 2
