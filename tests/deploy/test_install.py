"""``deploy/install.sh``, as far as it goes without a cluster: what it asks of kubectl, in order."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy.test_scripts import run
from tests.support.server import ROOT

INSTALL = ROOT / "deploy" / "install.sh"

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
