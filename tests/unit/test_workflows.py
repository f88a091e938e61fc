"""The workflows and their scripts: linted, pinned, bounded, with no more rights than they need."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.server import ROOT

BIN = Path(sys.executable).parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SCRIPTS = sorted([*(ROOT / "deploy" / "e2e").glob("*.sh"), *(ROOT / "deploy").glob("release/*.sh")])


def run(*command: str | Path, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a tool; its output tells what it found."""
    return subprocess.run(
        [str(BIN / command[0]), *map(str, command[1:])],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def actionlint(*files: Path) -> subprocess.CompletedProcess[str]:
    """Lint workflows, and with shellcheck what they run."""
    return run("actionlint", "-no-color", "-shellcheck", BIN / "shellcheck", *files)


def jobs(workflow: Path) -> dict[str, dict[str, Any]]:
    """Give the jobs of a workflow."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(workflow.read_text())["jobs"]
    return found


def test_actionlint_finds_nothing() -> None:
    assert len(WORKFLOWS) == 3
    done = actionlint(*WORKFLOWS)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("mistake", "found"),
    [
        ("run: rm -r $HOME/$(pwd)", "SC2046"),
        ("run: echo ${{ github.event.pull_request.title }}", "untrusted"),
        ("run: echo ${{ matrix.none }}", "matrix"),
    ],
)
def test_actionlint_would_find_a_mistake(tmp_path: Path, mistake: str, found: str) -> None:
    workflow = tmp_path / "w.yml"
    steps = f"jobs:\n  one:\n    runs-on: ubuntu-24.04\n    steps:\n      - {mistake}\n"
    workflow.write_text("on: pull_request\n" + steps)
    assert found in actionlint(workflow).stdout


def test_zizmor_finds_nothing() -> None:
    done = run("zizmor", "--offline", "--no-progress", "--persona=pedantic", ".github")
    assert done.returncode == 0, done.stdout
    assert "No findings" in done.stdout


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_is_pinned_bounded_and_asks_for_little(workflow: Path) -> None:
    text = workflow.read_text()
    used = re.findall(r"uses: (.+)", text)
    assert used
    for action in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action
    whole = yaml.safe_load(text)
    assert whole["permissions"] == {}
    assert "group" in whole["concurrency"]
    for name, job in jobs(workflow).items():
        assert job["timeout-minutes"] <= 90, name
        assert set(job["permissions"]) <= {"contents", "packages", "id-token"}, name


def test_an_action_has_one_version_everywhere() -> None:
    pins: dict[str, set[str]] = {}
    for workflow in WORKFLOWS:
        for name, pin in re.findall(r"uses: (.+?)@(.+)", workflow.read_text()):
            pins.setdefault(name, set()).add(pin)
    assert all(len(found) == 1 for found in pins.values()), pins


def test_only_the_release_may_write_and_only_what_it_releases() -> None:
    may_write = {
        (workflow.stem, name, right)
        for workflow in WORKFLOWS
        for name, job in jobs(workflow).items()
        for right, level in job["permissions"].items()
        if level == "write"
    }
    assert may_write == {
        ("release", "pypi", "id-token"),
        ("release", "images", "packages"),
        ("release", "images", "id-token"),
        ("release", "charts", "packages"),
        ("release", "charts", "id-token"),
        ("release", "announce", "contents"),
    }


def test_every_python_that_the_package_promises_is_tested() -> None:
    matrix = jobs(ROOT / ".github" / "workflows" / "ci.yml")["check"]["strategy"]["matrix"]
    promised = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
    assert matrix["python"] == promised


def test_shellcheck_finds_nothing_in_the_scripts() -> None:
    assert len(SCRIPTS) > 10
    done = run("shellcheck", *SCRIPTS)
    assert done.returncode == 0, done.stdout


def test_scripts_that_are_called_are_there_and_can_be_run() -> None:
    called = {
        script
        for file in [*WORKFLOWS, *SCRIPTS]
        for script in re.findall(r"deploy/(?:e2e|release)/[\w-]+\.sh", file.read_text())
    }
    assert called == {str(script.relative_to(ROOT)) for script in SCRIPTS} - {"deploy/e2e/lib.sh"}
    for script in called:
        assert (ROOT / script).stat().st_mode & 0o111, script


def test_an_image_that_a_step_installs_was_built() -> None:
    steps = [script.read_text() for script in SCRIPTS]
    built = {tag for text in steps for tag in re.findall(r'^derive "\$version-(\w+)"', text, re.M)}
    installed = {tag for text in steps for tag in re.findall(r'=\$version-(\w+)"', text)}
    assert installed == built != set()


def test_nothing_is_released_that_was_not_checked() -> None:
    release = jobs(ROOT / ".github" / "workflows" / "release.yml")
    assert ".ci/run" in [step.get("run") for step in release["check"]["steps"]]

    def needed(name: str) -> set[str]:
        needs = release[name].get("needs", [])
        direct = [needs] if isinstance(needs, str) else needs
        return {*direct, *(far for near in direct for far in needed(near))}

    assert [name for name in release if name != "check" and "check" not in needed(name)] == []


def test_what_goes_into_an_image_or_a_manifest_is_tried_end_to_end() -> None:
    # PyYAML takes the key "on" for the truth.
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "e2e.yml").read_text())
    paths = set(workflow[True]["pull_request"]["paths"])
    copied = {
        word.split("/")[0]
        for file in ("app/Dockerfile", "models/Dockerfile")
        for line in (ROOT / file).read_text().splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for word in line.split()[1:-1]
    } - {"LICENSE", "README.md"}
    for name in {*copied, "deploy", "k8s-config", "app", "Makefile", "build_app_images.sh"}:
        assert (f"{name}/**" if (ROOT / name).is_dir() else name) in paths, name


def test_the_cluster_of_the_end_to_end_test_is_pinned_to_the_oldest_that_is_supported() -> None:
    nodes = yaml.safe_load((ROOT / "deploy" / "e2e" / "kind.yaml").read_text())["nodes"]
    (image,) = {node["image"] for node in nodes}
    oldest = re.search(r">=(\d+\.\d+)", (ROOT / "deploy/charts/modelyard/Chart.yaml").read_text())
    assert oldest
    pinned = rf"docker\.io/kindest/node:v{re.escape(oldest[1])}\.\d+@sha256:[0-9a-f]{{64}}"
    assert re.fullmatch(pinned, image)


_HELM = """\
#!/bin/sh
[ "$1" = push ] || exec "{helm}" "$@"
cp "$2" "{pushed}"
echo "Digest: sha256:0" >&2
"""


def test_a_released_chart_names_the_registry_of_its_images(tmp_path: Path) -> None:
    tools, pushed = tmp_path / "bin", tmp_path / "pushed"
    for folder in (tools, pushed):
        folder.mkdir()
    assert (BIN / "helm").exists(), "make setup-deploy"
    (tools / "helm").write_text(_HELM.format(pushed=pushed, helm=BIN / "helm"))
    (tools / "cosign").write_text(f'#!/bin/sh\necho "$@" >>"{pushed}/signed"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    subprocess.run(
        [ROOT / "deploy" / "release" / "charts.sh", "ghcr.io/acme", "1.2.3"],
        env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"},
        check=True,
        capture_output=True,
    )
    for name in ("modelyard", "modelyard-model"):
        with tarfile.open(pushed / f"{name}-1.2.3.tgz") as packed:
            values = packed.extractfile(f"{name}/values.yaml")
            assert values
            assert yaml.safe_load(values.read())["image"]["registry"] == "ghcr.io/acme"
        signed = f"sign --yes ghcr.io/acme/charts/{name}@sha256:0"
        assert signed in (pushed / "signed").read_text().splitlines()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of what the notes are made from, about to be released as 1.2.0."""
    for name in ("deploy/release/notes.sh", "src/modelyard/__init__.py", "CHANGELOG.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tmp_path / name)
    version = tmp_path / "src" / "modelyard" / "__init__.py"
    version.write_text(re.sub(r'(__version__ = ").*"', r'\g<1>1.2.0"', version.read_text()))
    changes = (
        "# Changelog\n\n## [Unreleased]\n\nlater\n\n## [1.2.0] - 2027-01-02\n\n### Added\n\n- new\n"
    )
    (tmp_path / "CHANGELOG.md").write_text(changes + "\n## [1.1.0] - 2026-12-01\n\n- old\n")
    return tmp_path


@pytest.mark.parametrize(
    ("version", "code", "said"),
    [
        ("1.2.0", 0, "### Added\n\n- new"),
        ("1.1.0", 1, "src/modelyard/__init__.py says 1.2.0, not 1.1.0"),
    ],
)
def test_the_notes_are_the_section_of_the_version(
    source: Path, version: str, code: int, said: str
) -> None:
    done = run(source / "deploy" / "release" / "notes.sh", version)
    assert (done.returncode, (done.stdout + done.stderr).strip()) == (code, said)


def test_a_version_that_the_changelog_does_not_know_is_not_released(source: Path) -> None:
    changelog = source / "CHANGELOG.md"
    changelog.write_text(changelog.read_text().replace("[1.2.0]", "[1.3.0]"))
    done = run(source / "deploy" / "release" / "notes.sh", "1.2.0")
    assert done.returncode == 1
    assert "no section [1.2.0]" in done.stderr
