"""``isolated`` models: each in a Python environment of its own, made from its lock file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.e2e.test_authoring import lines_of
from tests.e2e.test_model_environment import ready, reason_of
from tests.e2e.test_odd_models import write
from tests.support.server import Member, Server, wait_for_the_end_of, wait_until

ISOLATED = "isolated = true\n[cache]\nttl_s = 0\n"
IMPORTS = """\
import importlib
import sys
from modelyard import Model

class Served(Model):
    example = ["six"]

    def load(self) -> None:
        print("runs in", sys.prefix, "!")

    def predict(self, instances: list[str]) -> list[str]:
        return [self.version_of(name) for name in instances]

    def version_of(self, name: str) -> str:
        try:
            return str(importlib.import_module(name).__version__)
        except ImportError:
            return "none"
"""
DIGEST = "8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254"
OLD_SIX = f"six==1.16.0 \\\n    --hash=sha256:{DIGEST}\n"
NEW_SIX = "six==1.17.0\n"
NO_BROKER = {"MODELYARD_AMQP_URL": "amqp://127.0.0.1:1/"}
"""A worker answers as soon as it has started, broker or not; `serve` when all have loaded."""
STUCK = """\
#!/bin/sh
echo $$ >"$STUCK_AS"
exec sleep 600
"""


EDITS_THE_LOCK = """\
#!/bin/sh
if [ "$1" = venv ]; then echo six==1.17.0 >"$LOCK"; fi
exec "$REAL_UV" "$@"
"""


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Give a PATH with uv, and one without it."""
    home = tmp_path_factory.mktemp("uv")
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "uv")
    subprocess.run([python, *install], check=True)
    found = os.environ["PATH"].split(os.pathsep)
    without = os.pathsep.join(part for part in found if not Path(part, "uv").exists())
    only_uv = home / "only"
    only_uv.mkdir()
    (only_uv / "uv").symlink_to(home / "bin" / "uv")
    return {"pip": without, "uv": f"{only_uv}{os.pathsep}{without}"}


def isolated(folder: Path, lock: str | None) -> Path:
    """Write an isolated model with a lock file."""
    write(folder, IMPORTS, ISOLATED)
    if lock is not None:
        (folder / "requirements.lock").write_text(lock)
    return folder


def versions(server: Server, model: str, *names: str) -> list[str]:
    """Give the versions that a model imports, once it is ready."""
    ready(server, model)
    found: list[str] = server.predict(model, list(names)).json()["prediction"]
    return found


def prefixes(server: Server) -> set[str]:
    """Give where the runners' Pythons said that they are."""
    return set(re.findall(r"runs in (\S+) !", server.output))


def made_in(folder: Path) -> set[str]:
    """Give the folders of environments, whole or not."""
    return {path.name for path in folder.glob("*.d")}


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_models_whose_packages_clash_live_side_by_side(
    tmp_path: Path, paths: dict[str, str], installer: str
) -> None:
    environments = tmp_path / "environments"
    settings = {"MODELYARD_ENVIRONMENTS_FOLDER": str(environments), "PATH": paths[installer]}
    models = [isolated(tmp_path / "old", OLD_SIX), isolated(tmp_path / "new", NEW_SIX)]
    names = ("six", "fastapi", "pytest", "msgspec")
    with Server(*models, settings=settings) as server:
        old, new = (versions(server, model, *names) for model in ("old", "new"))
        where = prefixes(server)
    assert old[:3] == ["1.16.0", "none", "none"]
    assert new[:3] == ["1.17.0", "none", "none"]
    assert old[3] == new[3] != "none"
    assert len(where) == 2
    whole = made_in(environments)
    with Server(*models, settings=settings) as server:  # made once, and kept
        assert versions(server, "old", "six") == ["1.16.0"]
        assert versions(server, "new", "six") == ["1.17.0"]
        assert prefixes(server) == where
    assert made_in(environments) == whole
    found = lines_of(models[0], **settings)
    assert found["environment"][0] == "ok"
    assert str(environments) in found["environment"][1]
    assert found["load"][0] == "ok"


def test_two_servers_make_an_environment_once(tmp_path: Path, paths: dict[str, str]) -> None:
    environments = tmp_path / "environments"
    settings = {"MODELYARD_ENVIRONMENTS_FOLDER": str(environments), "PATH": paths["uv"]}
    folder = isolated(tmp_path / "m", NEW_SIX)
    with ExitStack() as stack, ThreadPoolExecutor() as threads:

        def serve() -> Server:
            return Server(folder, settings=settings).__enter__()

        for started in [threads.submit(serve) for _ in range(2)]:
            server = started.result()
            stack.push(server)
            assert versions(server, "m", "six") == ["1.17.0"]
    assert len(made_in(environments)) == 1


def test_an_environment_that_was_left_half_made_is_made_anew(
    tmp_path: Path, paths: dict[str, str]
) -> None:
    environments = tmp_path / "environments"
    stuck_as, tools = tmp_path / "stuck", tmp_path / "bin"
    tools.mkdir()
    (tools / "uv").write_text(STUCK)
    (tools / "uv").chmod(0o755)
    settings = {"MODELYARD_ENVIRONMENTS_FOLDER": str(environments), "STUCK_AS": str(stuck_as)}
    stuck = settings | NO_BROKER | {"PATH": f"{tools}{os.pathsep}{paths['pip']}"}
    folder = isolated(tmp_path / "m", NEW_SIX)
    with Member("worker", folder, settings=stuck) as server:

        def reason() -> str:
            (state,) = server.http.get("/readyz").json()["models"].values()
            word, _, why = state.partition(": ")
            assert word == "starting"
            return str(why)

        wait_until(reason, what="a reason")
        assert reason() == "its Python environment is being made from requirements.lock"
        assert f"s  {reason()}\n" in server.output
        installer = int(wait_until(lambda: stuck_as.exists() and stuck_as.read_text(), what="uv"))
        (half,) = made_in(environments)
        server.process.kill()
    psutil.Process(installer).kill()  # as when the machine stops
    with Server(folder, settings=settings | {"PATH": paths["uv"]}) as server:
        assert versions(server, "m", "six") == ["1.17.0"]
    (whole,) = made_in(environments)
    assert whole != half


def test_a_lock_file_that_changes_meanwhile_is_for_the_next_environment(
    tmp_path: Path, paths: dict[str, str]
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "uv").write_text(EDITS_THE_LOCK)
    (tools / "uv").chmod(0o755)
    folder = isolated(tmp_path / "m", OLD_SIX)
    uv, _, rest = paths["uv"].partition(os.pathsep)
    settings = {
        "MODELYARD_ENVIRONMENTS_FOLDER": str(tmp_path / "environments"),
        "PATH": f"{tools}{os.pathsep}{rest}",
        "LOCK": str(folder / "requirements.lock"),
        "REAL_UV": f"{uv}/uv",
    }
    with Server(folder, settings=settings) as server:
        assert versions(server, "m", "six") == ["1.16.0"]
    with Server(folder, settings=settings) as server:
        assert versions(server, "m", "six") == ["1.17.0"]


def test_a_server_that_is_told_to_stop_does_not_wait_for_an_installer(
    tmp_path: Path, paths: dict[str, str]
) -> None:
    environments, stuck_as, tools = tmp_path / "environments", tmp_path / "stuck", tmp_path / "bin"
    tools.mkdir()
    (tools / "uv").write_text(STUCK)
    (tools / "uv").chmod(0o755)
    settings = {
        "MODELYARD_ENVIRONMENTS_FOLDER": str(environments),
        "STUCK_AS": str(stuck_as),
        "PATH": f"{tools}{os.pathsep}{paths['pip']}",
        **NO_BROKER,
    }
    with Member("worker", isolated(tmp_path / "m", NEW_SIX), settings=settings) as server:
        text = wait_until(lambda: stuck_as.exists() and stuck_as.read_text(), what="uv")
        installer = psutil.Process(int(text))
        assert server.stop() == 0
        wait_for_the_end_of([installer])
    assert made_in(environments) == set()


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_what_the_installer_said_last_is_the_reason(
    tmp_path: Path, paths: dict[str, str], installer: str
) -> None:
    environments = tmp_path / "environments"
    settings = {"MODELYARD_ENVIRONMENTS_FOLDER": str(environments), "PATH": paths[installer]}
    damaged = isolated(tmp_path / "damaged", OLD_SIX.replace(DIGEST, "0" * 64))
    with Server(damaged, settings=settings) as server:
        reason = reason_of(server, "damaged")
    assert reason.startswith("its Python environment cannot be made: ")
    assert "hash" in reason.lower()
    assert DIGEST in reason
    assert made_in(environments) == set()


@pytest.mark.parametrize(
    ("lock", "requirements", "reason"),
    [
        (None, "six\n", "isolated = true needs requirements.lock"),
        ("msgspec==0.18.0\n", "", "requirements.lock pins msgspec 0.18.0, and Modelyard needs >="),
    ],
)
def test_a_lock_file_that_does_not_do_is_named(
    tmp_path: Path, lock: str | None, requirements: str, reason: str
) -> None:
    folder = isolated(tmp_path / "m", lock)
    (folder / "requirements.txt").write_text(requirements)
    settings = {"MODELYARD_ENVIRONMENTS_FOLDER": str(tmp_path / "environments")}
    with Server(folder, settings=settings) as server:
        assert reason_of(server, "m").startswith(reason)
    assert lines_of(folder, **settings)["environment"][1].startswith(reason)


def test_no_environment_is_made_where_the_server_s_own_is_the_model_s(tmp_path: Path) -> None:
    folder = isolated(tmp_path / "m", "no-such-package==1\n")
    with Server(folder, settings={"MODELYARD_MAKE_ENVIRONMENTS": "false"}) as server:
        assert versions(server, "m", "fastapi") != ["none"]
        assert prefixes(server) == {sys.prefix}
