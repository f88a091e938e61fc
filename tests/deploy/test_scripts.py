"""The scripts that build and install, as far as they go without a registry and a cluster."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

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
  *"apply "*cert-manager.yaml*)
    if [ -f "{broken}" ]; then grep -q for-ever "{broken}" || rm "{broken}"; exit 1; fi ;;
  *"--kustomize "*) cp -R "$(dirname "$(echo "$*" | sed 's/.*--kustomize //')")" "{kustomized}" ;;
  "create "*) cat >"{secret}" ;;
  *"--filename -") cat >/dev/null ;;
esac
"""


class FakeCluster:
    """A kubectl that notes what it is asked."""

    def __init__(self, folder: Path) -> None:
        self.log, self.secret = folder / "log", folder / "secret"
        self.foreign, self.broken = folder / "foreign", folder / "broken"
        self.kustomized = folder / "kustomized"
        self._bin = folder / "bin"
        self._bin.mkdir()
        script = _KUBECTL.format(**{k: v for k, v in vars(self).items() if k[0] != "_"})
        (self._bin / "kubectl").write_text(script)
        (self._bin / "kubectl").chmod(0o755)

    @property
    def calls(self) -> list[str]:
        """What kubectl was asked by the last run."""
        return self.log.read_text().splitlines()

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run the script."""
        self.log.write_text("")
        return run(INSTALL, *arguments, path=self._bin)

    def install(self, *arguments: str | Path) -> list[str]:
        """Run the script to its good end; give the calls of kubectl."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return self.calls


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
    assert len(verbs) == 9  # the namespace, which is there at once, and four parts
    for apply, wait in zip(verbs[1::2], verbs[2::2], strict=True):
        assert apply.startswith("apply --server-side")
        assert re.search(r"--timeout=[1-7]s$", wait)  # what the part has left of its time
    assert not [call for call in calls if "keda" in call or "latest" in call]


def test_the_time_is_limited_for_every_call(cluster: FakeCluster) -> None:
    calls = cluster.install("--timeout", "7")
    unlimited = [call for call in calls if "timeout=" not in call]
    assert unlimited == ["config current-context"]  # which asks no cluster


def test_what_never_works_is_given_up_in_its_time(cluster: FakeCluster) -> None:
    cluster.broken.write_text("for-ever")
    done = cluster.run("--timeout", "1", "--keda")
    assert done.returncode == 1
    assert "gave up after 1 s: kubectl apply" in done.stderr
    # It says how far it came, and what to do.
    namespace, secret = done.stdout.partition("== Summary\n")[2].splitlines()
    assert namespace.startswith("Namespace modelyard")
    assert secret == "Secret modelyard-redis, a password for Redis: made"
    assert "cert-manager v1.21.1: failed, see above" in done.stderr


def test_the_namespace_and_the_secret_are_there_first(cluster: FakeCluster) -> None:
    calls = cluster.install()
    changes = [call for call in calls if call.startswith(("apply ", "create "))]
    assert [call.split()[-1] for call in changes[:2]] == ["-", "-"]  # both are handed over
    assert "cert-manager" in changes[2]


def test_it_ends_with_what_it_did_and_what_comes_next(cluster: FakeCluster) -> None:
    cluster.foreign.touch()
    done = cluster.run("--keda", "--namespace", "ml")
    *parts, following = done.stdout.partition("== Summary\n")[2].splitlines()
    outcomes = dict(part.split(": ") for part in parts)
    assert outcomes["KEDA v2.20.2"] == outcomes["Metrics server"] == "installed"
    assert outcomes["RabbitMQ Messaging Topology Operator v1.20.1"].startswith("left alone")
    assert following.startswith("Next: helm --namespace ml install modelyard ")


MIRROR = "https://mirror.example.com/github"


def test_a_mirror_stands_for_github(cluster: FakeCluster) -> None:
    calls = cluster.install("--mirror", f"{MIRROR}/", "--keda", "--kind")
    assert not [call for call in calls if "github.com" in call]
    assert len([call for call in calls if f"--filename {MIRROR}/" in call]) == 4
    kustomization = (cluster.kustomized / "metrics-server" / "kustomization.yaml").read_text()
    assert f"- {MIRROR}/kubernetes-sigs/metrics-server/releases/download/" in kustomization


def test_a_folder_of_files_is_enough(cluster: FakeCluster, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    said = run(INSTALL, "--dry-run", "--keda").stdout
    addresses = re.findall(r"^File: (https://github\.com/.+)$", said, re.MULTILINE)
    assert len(addresses) == 5
    done = cluster.run("--mirror", folder, "--keda")
    assert done.returncode == 2
    assert cluster.calls == []
    assert set(done.stderr.splitlines()[1:]) == set(addresses)  # all that is missing, at once
    for address in addresses:
        (folder / address.rpartition("/")[2]).write_text(f"# {address}\n")
    calls = cluster.install("--mirror", folder, "--keda")
    assert not [call for call in calls if "https:" in call]
    assert len([call for call in calls if f"--filename {folder}/" in call]) == 4
    assert (
        "- components.yaml\n"
        in (cluster.kustomized / "metrics-server" / "kustomization.yaml").read_text()
    )
    assert (
        "metrics-server" in (cluster.kustomized / "metrics-server" / "components.yaml").read_text()
    )


def test_no_overlay_lies_within_what_it_changes() -> None:
    """kubectl refuses that as a cycle, before it reads anything."""
    overlays = {path.parent for path in (ROOT / "k8s-config").rglob("kustomization.yaml")}
    assert len(overlays) >= 3
    for overlay in overlays:
        resources = yaml.safe_load((overlay / "kustomization.yaml").read_text())["resources"]
        bases = {(overlay / one).resolve() for one in resources if "://" not in one}
        assert not bases & {overlay, *overlay.parents}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mirror", "nowhere"], "no such folder, and no address: nowhere"),
        (["--mirror"], "--mirror needs a value"),
        (["--timeout", "5m"], "--timeout: expected seconds, got 5m"),
        (["--kinds"], "unknown argument: --kinds"),
    ],
)
def test_a_mistake_in_installing_is_named(arguments: list[str], message: str) -> None:
    done = run(INSTALL, "--dry-run", *arguments)
    assert done.returncode == 2
    assert message in done.stderr


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
