"""The wheel alone, in an empty environment and an empty folder: as most will meet it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from modelyard import __version__
from tests.support.server import ROOT, wait_until

INSTALL = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")


class Installed:
    """An environment with the wheel in it, and an empty folder to work in."""

    def __init__(self, folder: Path) -> None:
        self.work = folder / "work"
        self.work.mkdir()
        wheels, environment = folder / "wheels", folder / "environment"
        build = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
        self._do(sys.executable, *build, "--wheel-dir", str(wheels), str(ROOT))
        (wheel,) = wheels.glob("modelyard-*.whl")
        self._do(sys.executable, "-m", "venv", str(environment))
        self._do(str(environment / "bin" / "python"), *INSTALL, str(wheel))
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MODELYARD_", "PYTHON"))}
        self.environment = {**kept, "PATH": f"{environment / 'bin'}{os.pathsep}{kept['PATH']}"}

    def run(self, command: str, **settings: str) -> str:
        """Run a command line as it was printed; gives what it says."""
        return self._do(*shlex.split(command), **settings)

    @contextmanager
    def serving(self, command: str) -> Iterator[str]:
        """Serve as a command says, but on a free port; gives that."""
        with (self.work / "said").open("w+") as said:
            server = subprocess.Popen(
                [*shlex.split(command), "--port", "0"],
                cwd=self.work,
                env=self.environment,
                stdout=said,
            )
            try:
                where = self.work / "said"
                pattern = r"Modelyard is at http://127.0.0.1:(\d+)"
                wait_until(lambda: re.search(pattern, where.read_text()), what="an address")
                yield re.findall(pattern, where.read_text())[0]
            finally:
                server.terminate()
                assert server.wait(60) == 0

    def _do(self, *command: str, **settings: str) -> str:
        environment = {**getattr(self, "environment", os.environ), **settings}
        done = subprocess.run(
            command, cwd=self.work, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(tmp_path_factory.mktemp("wheel"))


def test_what_new_prints_works_with_the_wheel_alone(installed: Installed) -> None:
    said = installed.run("modelyard new sentiment")
    commands = re.findall(r"^  (.*)$", said, re.MULTILINE)
    check, install, test, serve, predict, build, *_ = commands
    assert "failed" not in installed.run(check)
    assert install == "python -m pip install pytest"
    installed.run(install)
    assert "2 passed" in installed.run(test)
    with installed.serving(serve) as port:
        assert json.loads(installed.run(predict, MODELYARD_PORT=port)) == [2.0]
        assert "sentiment  1*" in installed.run("modelyard models", MODELYARD_PORT=port)
    assert installed.run(f"{build} --context context").startswith("wrote context")


def test_it_runs_as_a_module(installed: Installed) -> None:
    assert installed.run("python -m modelyard --version") == f"modelyard {__version__}\n"
    assert "usage: modelyard" in installed.run("python -m modelyard --help")


def test_the_client_can_be_installed_beside_it_and_removed(
    installed: Installed, tmp_path: Path
) -> None:
    build = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
    client = str(ROOT / "clients" / "python")
    subprocess.run([sys.executable, *build, "--wheel-dir", tmp_path, client], check=True)
    (wheel,) = tmp_path.glob("modelyard_client-*.whl")
    installed.run(f"python {shlex.join(INSTALL)} --no-deps --no-index {wheel}")
    show = "import {0}; print({0}.__version__)"
    assert installed.run(f"python -c '{show.format('modelyard_client')}'") == f"{__version__}\n"
    installed.run("python -m pip uninstall --quiet --yes modelyard-client")
    assert installed.run(f"python -c '{show.format('modelyard.client')}'") == f"{__version__}\n"
