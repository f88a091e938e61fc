"""The commands of ``docs/kubernetes.md`` do what they say, as far as one sees without a cluster."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.deploy.charts import (
    CASES,
    MODEL,
    PLATFORM,
    Manifest,
    helm,
    parse,
    render,
    render_case,
)
from tests.deploy.sizes import Size, size_of
from tests.deploy.test_policy import PLAIN
from tests.support.server import ROOT

ONLY_FOR_UPGRADES = {"--reset-then-reuse-values", "--wait"}


class Command(NamedTuple):
    """``helm -n NAMESPACE VERB ARGUMENTS…``."""

    verb: str
    arguments: list[str]

    @property
    def release(self) -> str:
        """The release's name."""
        return self.arguments[0]


def shell_commands() -> list[str]:
    """Give what is typed: each command with the lines that go on with it, and no output."""
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [
        command
        for block in blocks
        for command in re.findall(r"^\$ (.+(?:\n[ \t].*)*)", block, re.MULTILINE)
    ]


def commands() -> list[Command]:
    """Give every call of helm in the page, in its order."""
    found = []
    for line in shell_commands():
        if line.startswith("helm "):
            program, flag, namespace, verb, *arguments = shlex.split(line.replace("\\\n", " "))
            assert (program, flag, namespace) == ("helm", "-n", "modelyard"), line
            found.append(Command(verb, arguments))
    return found


def test_what_is_typed_is_shell() -> None:
    typed = shell_commands()
    assert len(typed) > 20
    for command in typed:
        done = subprocess.run(["bash", "-nc", command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_plain_files_are_applied_as_the_namespace_was() -> None:
    applied = [command for command in shell_commands() if command.startswith("kubectl apply")]
    assert applied
    assert all("--server-side" in command for command in applied)


COMMANDS = commands()
IDS = [f"{one.verb}-{one.release}" for one in COMMANDS]


def test_the_page_shows_the_life_of_a_release() -> None:
    assert {one.verb for one in COMMANDS} == {
        *("install", "upgrade", "test", "history", "rollback", "uninstall")
    }


@pytest.mark.parametrize("command", COMMANDS, ids=IDS)
def test_helm_knows_every_flag(command: Command) -> None:
    done = helm(command.verb, *command.arguments, "--help")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("place", range(len(COMMANDS)), ids=IDS)
def test_what_is_installed_and_upgraded_renders(place: int) -> None:
    command = COMMANDS[place]
    if command.verb not in ("install", "upgrade"):
        assert command.release in {one.release for one in COMMANDS if one.verb == "install"}
        return
    release, chart, *flags = command.arguments
    if command.verb == "upgrade":
        # A new chart may have new values: those before are kept, and the new ones have to be there.
        assert "--reset-then-reuse-values" in flags
        flags = [*_flags_before(place, release), *flags]
    flags = [flag for flag in flags if flag not in ONLY_FOR_UPGRADES]
    done = helm("template", release, chart, "--namespace", "modelyard", *flags)
    assert done.returncode == 0, done.stderr
    for tag in (flag.removeprefix("image.tag=") for flag in flags if "image.tag=" in flag):
        assert f"/modelyard-model-fast-iris-model:{tag}\n" in done.stdout


def test_a_new_image_goes_with_its_own_model_toml() -> None:
    changed = [one for one in COMMANDS if any("image.tag" in word for word in one.arguments)]
    assert changed
    assert all("--set-file" in one.arguments for one in changed)


@pytest.mark.parametrize("command", [one for one in COMMANDS if "--wait" in one.arguments])
def test_helm_is_never_told_to_wait_without_how_long(command: Command) -> None:
    told = command.arguments[command.arguments.index("--timeout") + 1]
    flags = next(one.arguments[2:] for one in COMMANDS if one.release == command.release)
    noted = helm("install", command.release, MODEL, "--dry-run=client", *flags).stdout
    assert told == re.findall(r"--wait --timeout (\d+s)$", noted, re.MULTILINE)[0]


def test_a_version_beside_the_old_one_is_another_release_with_another_image() -> None:
    first, second = (
        one.arguments
        for one in COMMANDS
        if one.verb == "install" and one.release.startswith("fast-iris-model")
    )
    assert first[0] != second[0]
    assert not any("image.tag" in word for word in first)
    assert "image.tag=2" in second


def test_the_reason_of_a_failure_is_looked_for_as_the_notes_say() -> None:
    noted = helm("install", "fast-iris-model", MODEL, "-n", "modelyard", "--dry-run=client").stdout
    (described,) = re.findall(r"^  (kubectl \S+ \S+ describe .*?tail -n 1\))$", noted, re.S | re.M)
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    assert " ".join(described.split()) in " ".join(page.split())


def installed(ci: str, *models: Path) -> list[Manifest]:
    """Give the platform and models, with the values of this name, or with the charts' own."""
    of_platform, of_model = (
        ("--values", str(chart / "ci" / ci)) if ci else () for chart in (PLATFORM, MODEL)
    )
    releases = [
        render(
            MODEL,
            "--set-file",
            f"model={path}",
            *of_model,
            release=path.parent.name.replace("_", "-"),
        )
        for path in models
    ]
    return [*render(PLATFORM, *of_platform), *(one for release in releases for one in release)]


def plain_files() -> list[Manifest]:
    """Give all files for kubectl."""
    return [manifest for path in PLAIN for manifest in parse(path.read_text())]


TOMLS = sorted((ROOT / "models").glob("*/model.toml"))
SMALL = "kind-values.yaml"


@pytest.mark.parametrize(
    ("row", "manifests"),
    [
        ("to try it: ", lambda: installed(SMALL, TOMLS[0])),
        ("the same with the three models", lambda: installed(SMALL, *TOMLS)),
        ("the charts' own values with the three models", lambda: installed("", *TOMLS)),
        ("the plain files, all of them", plain_files),
    ],
    ids=["one", "three", "charts", "files"],
)
def test_it_asks_for_what_the_page_says(row: str, manifests: Callable[[], list[Manifest]]) -> None:
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    cells = rf"^\| {row}.*? \| (\d+) \| ([\d.]+) \| ([\d.]+) GiB \|$"
    ((pods, cores, gibi),) = re.findall(cells, page, re.MULTILINE)
    assert Size(int(pods), float(cores), float(gibi)) == size_of(manifests())


def test_a_model_team_may_do_what_a_release_takes_and_no_more() -> None:
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    (block,) = re.findall(r"^```yaml\n(.*?kind: Role\n.*?)^```", text, re.DOTALL | re.MULTILINE)
    (role,) = parse(block)
    changes, looks = role["rules"]
    rendered = [
        one for chart, values in CASES if chart == MODEL for one in render_case(chart, values)
    ]
    kinds = {(one["apiVersion"].rpartition("/")[0], one["kind"]) for one in rendered}
    groups, resources = zip(*((group, plural(kind)) for group, kind in kinds), strict=True)
    assert set(changes["apiGroups"]) == set(groups)
    assert set(changes["resources"]) == set(resources)
    assert {"create", "delete", "get", "list", "patch", "update", "watch"} == set(changes["verbs"])
    assert set(looks["verbs"]) == {"get", "list", "watch"}
    assert "secrets" not in (*changes["resources"], *looks["resources"])


def plural(kind: str) -> str:
    """Give a kind's name as rights name it."""
    name = kind.lower()
    return f"{name[:-1]}ies" if name.endswith("y") else f"{name}s"


def _flags_before(place: int, release: str) -> list[str]:
    """Give what the release was installed with."""
    (installed,) = (
        one for one in COMMANDS[:place] if one.verb == "install" and one.release == release
    )
    return installed.arguments[2:]
