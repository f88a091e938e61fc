"""The commands of ``docs/kubernetes.md`` do what they say, as far as one sees without a cluster."""

from __future__ import annotations

import re
import shlex
from typing import NamedTuple

import pytest

from tests.deploy.charts import CASES, MODEL, helm, parse, render_case
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


def commands() -> list[Command]:
    """Give every call of helm in the page, in its order."""
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    found = []
    for line in lines:
        if line.startswith("$ helm "):
            program, flag, namespace, verb, *arguments = shlex.split(line[2:])
            assert (program, flag, namespace) == ("helm", "-n", "modelyard"), line
            found.append(Command(verb, arguments))
    return found


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
    if "image.tag=2" in flags:
        assert "/modelyard-model-fast-iris-model:2\n" in done.stdout


def test_a_new_image_goes_with_its_own_model_toml() -> None:
    changed = [one for one in COMMANDS if any("image.tag" in word for word in one.arguments)]
    assert changed
    assert all("--set-file" in one.arguments for one in changed)


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
