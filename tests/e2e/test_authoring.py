"""What who writes a model types: new, check, test and build, in a clone or in an empty folder."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from modelyard import __version__
from tests.e2e.test_command_line import check_mistake, run
from tests.e2e.test_odd_models import write
from tests.support.broker import Broker
from tests.support.server import MODELYARD, ROOT, Member, Server, wait_until

BIN = Path(sys.executable).parent


def in_folder(
    folder: Path, command: str, *, path: str | None = None, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run a command line as a shell would, in a folder."""
    environment = {**os.environ, "PATH": path or f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(
        shlex.split(command),
        cwd=folder,
        env={**environment, **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def lines_of(folder: Path, **settings: str) -> dict[str, tuple[str, str]]:
    """Check a model; gives each line's state and text by what was looked at."""
    said = run("check", folder, **settings)
    found = re.findall(r"^  (ok|note|failed) +(\w+) +(.*)$", said.stdout, re.MULTILINE)
    assert said.returncode == any(state == "failed" for state, _, _ in found), said
    return {what: (state, text) for state, what, text in found}


def test_what_new_prints_works_as_it_stands(tmp_path: Path) -> None:
    said = in_folder(tmp_path, "modelyard new sentiment").stdout
    commands = dict.fromkeys(re.findall(r"^  (.*)$", said, re.MULTILINE))
    kinds = [command.split()[1] for command in commands]
    assert kinds == ["check", "test", "serve", "predict", "build", "gateway", "worker"]
    check, test, serve, predict, build, *_ = commands
    assert "failed" not in in_folder(tmp_path, check).stdout
    assert "2 passed" in in_folder(tmp_path, test).stdout
    assert in_folder(tmp_path, f"{build} --dockerfile-only").returncode == 0
    with Server(*(tmp_path / word for word in serve.split()[2:])) as server:
        port = server.url.rpartition(":")[2]
        assert in_folder(tmp_path, predict, MODELYARD_PORT=port).stdout == "[2.0]\n"


def test_serve_where_there_is_no_model_says_how_to_write_one(tmp_path: Path) -> None:
    nothing = in_folder(tmp_path, "modelyard serve")
    check_mistake(nothing, "models: no such folder or file", "`modelyard new` writes a model")
    (tmp_path / "models").mkdir()
    check_mistake(in_folder(tmp_path, "modelyard serve"), "`modelyard new` writes a model")


def test_the_next_steps_for_a_cluster_work_too(tmp_path: Path, broker: Broker) -> None:
    said = run("new", "sentiment", "--into", tmp_path).stdout
    gateway, worker = (line.split()[1:] for line in said.splitlines()[-2:])
    settings = {"MODELYARD_AMQP_URL": broker.url}
    with Member(*gateway, settings=settings) as asked, Member(*worker, settings=settings):
        ask = ("predict", "sentiment", '["a great film"]', "--url", asked.url)
        wait_until(lambda: run(*ask).stdout == "[2.0]\n", what="an answer")


@pytest.mark.parametrize(
    ("started_as", "expected"),
    [
        ("modelyard", "modelyard"),
        (MODELYARD, MODELYARD),
        (f"{sys.executable} -m modelyard", None),
    ],
)
def test_what_is_printed_starts_what_was_started(
    tmp_path: Path, started_as: str, expected: str | None
) -> None:
    path = None if started_as == "modelyard" else "/usr/bin:/bin"
    said = in_folder(tmp_path, f"{started_as} new sentiment", path=path).stdout
    check = re.findall(r"^  (.*) check models/sentiment$", said, re.MULTILINE)[0]
    assert expected is None or check == expected
    version = in_folder(tmp_path, f"{check} --version", path=path).stdout
    assert version == f"modelyard {__version__}\n"


def test_a_models_tests_run_whatever_is_around_the_folder(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[tool.pytest.ini_options]\naddopts = ["--no-such-option"]\n'
    )
    (tmp_path / "conftest.py").write_text("raise RuntimeError('not for this model')\n")
    run("new", "sentiment", "--into", tmp_path)
    folder = tmp_path / "sentiment"
    assert "2 passed" in run("test", folder).stdout
    only_one = run("test", folder, "--", "-k", "scores")
    assert "1 passed, 1 deselected" in only_one.stdout
    (folder / "tests" / "test_sentiment.py").write_text("def test_fails():\n    assert 0\n")
    assert run("test", folder).returncode == 1
    check_mistake(run("test", tmp_path), "no model's folder")


def test_check_tells_all_of_a_model_that_is_well(tmp_path: Path) -> None:
    run("new", "sentiment", "--into", tmp_path)
    lines = lines_of(tmp_path / "sentiment")
    assert {state for state, _ in lines.values()} == {"ok"}
    assert lines["manifest"][1] == "sentiment/1, model:Sentiment"
    assert lines["contract"][1] == "an instance: string; its prediction: number"
    assert lines["example"][1].startswith("1 instance, 16 B of JSON")
    assert re.fullmatch("sha256:[0-9a-f]{64}", lines["digest"][1])
    assert "256Mi" in lines["sizes"][1]


ECHO = """\
from modelyard import Model

class Served(Model):
    def predict(self, instances: list[int]) -> list[int]:
        return instances
"""


def model_with(load: str) -> str:
    return ECHO.replace(
        "    def predict", f"    def load(self) -> None:\n        {load}\n\n    def predict"
    )


@pytest.mark.parametrize(
    ("code", "manifest", "what", "said"),
    [
        (ECHO, "[limits]\ntimeout_s = -1\n", "manifest", "limits.timeout_s"),
        (ECHO, f'[artefacts]\n"x" = "sha256:{"0" * 64}"\n', "artefacts", "assets/x is missing"),
        (model_with('raise ValueError("no weights")'), "", "load", "no weights (src/model.py:5)"),
        (model_with("__import__('os')._exit(3)"), "", "load", "ended with exit code 3"),
        (model_with("__import__('os').abort()"), "", "load", "ended with SIGABRT"),
        (
            model_with("__import__('time').sleep(60)"),
            "[limits]\nload_timeout_s = 0.5\n",
            "load",
            "load_timeout_s = 0.5",
        ),
        (ECHO.replace(": list[int]", ""), "", "load", "has no annotation"),
        (ECHO.replace("def predict", "async def predict"), "", "load", "write concurrency = 16"),
        (ECHO.replace("Served", "Flower"), "", "load", 'write class = "model:Flower"'),
        (ECHO, '[resources]\nmemory = "1Mi"\n', "sizes", 'write memory = "'),
    ],
)
def test_check_tells_what_keeps_a_model_from_being_served(
    tmp_path: Path, code: str, manifest: str, what: str, said: str
) -> None:
    folder = write(tmp_path / "odd", code, manifest)
    state, text = lines_of(folder)[what]
    assert state == "failed"
    assert said in text


def test_check_says_that_an_instance_is_a_file(tmp_path: Path) -> None:
    code = ECHO.replace("list[int]", "list[bytes]", 1).replace(
        "-> list[int]", "-> list[tuple[list[bytes], int]]"
    )
    said = lines_of(write(tmp_path / "files", code))["contract"][1]
    one = "bytes (base64 in JSON)"
    assert said == f"an instance: {one}; its prediction: (list of {one}, integer)"


def test_check_tells_how_to_list_a_folder_of_assets(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"weights").hexdigest()
    manifest = f'[artefacts]\n"net" = "sha256:{digest}"\n'
    folder = write(tmp_path / "hub", ECHO, manifest)
    (folder / "assets" / "net" / "deep").mkdir(parents=True)
    (folder / "assets" / "net" / "deep" / "weights").write_bytes(b"weights")
    state, text = lines_of(folder)["artefacts"]
    assert state == "failed"
    assert text.startswith("assets/net is a folder, and a digest is of a file: ")
    advice = text.partition("such as ")[2]
    assert advice == f'"net/deep/weights" = "sha256:{digest}"'
    path = folder / "model.toml"
    path.write_text(path.read_text().replace(manifest, f"[artefacts]\n{advice}\n"))
    assert lines_of(folder)["artefacts"] == ("ok", "1 file checked")


def test_check_names_assets_without_a_digest_beside_those_that_have_one(tmp_path: Path) -> None:
    run("new", "sentiment", "--into", tmp_path)
    folder = tmp_path / "sentiment"
    (folder / "assets" / "net").mkdir()
    for name in ("net/b.bin", "a.bin", ".hidden"):
        (folder / "assets" / name).touch()
    state, text = lines_of(folder)["artefacts"]
    assert (state, text) == ("note", "1 file checked; a.bin, net/b.bin: without a digest")
    path = folder / "model.toml"
    path.write_text(path.read_text().replace('"words.json" = ', "# "))
    assert lines_of(folder)["artefacts"] == ("ok", "0 files checked")


RANDOM = """\
import random

from modelyard import Model

class Served(Model):
    example = [1]

    def predict(self, instances: list[int]) -> list[float]:
        return [random.random() for _ in instances]
"""

DIES = """\
import os

from modelyard import Model

class Served(Model):
    example = [1]
    is_asked = False

    def predict(self, instances: list[int]) -> list[int]:
        if self.is_asked:
            os._exit(1)
        self.is_asked = True
        return instances
"""


@pytest.mark.parametrize(
    ("code", "manifest", "expected"),
    [
        (
            RANDOM,
            "",
            ("note", "the example's predictions differ for equal input; set [cache] ttl_s = 0"),
        ),
        (RANDOM, "[cache]\nttl_s = 0\n", ("ok", "off: the model answers every request")),
        (ECHO, "", ("ok", "an answer is kept for 300 s, for equal input")),
        (
            ECHO.replace("    def", "    example = [1]\n\n    def"),
            "[cache]\nttl_s = 0.5\n",
            ("ok", "an answer is kept for 0.5 s, for equal input"),
        ),
        (DIES, "", ("ok", "an answer is kept for 300 s, for equal input")),
    ],
    ids=["random", "random, not cached", "no example", "steady", "ends before it answers twice"],
)
def test_check_says_if_answers_are_cached_that_differ(
    tmp_path: Path, code: str, manifest: str, expected: tuple[str, str]
) -> None:
    assert lines_of(write(tmp_path / "odd", code, manifest))["cache"] == expected


def test_check_shows_what_a_model_printed_that_does_not_load(tmp_path: Path) -> None:
    code = model_with("print('looking for weights'); raise ValueError('no weights')")
    said = run("check", write(tmp_path / "odd", code)).stdout
    assert "    | looking for weights\n" in said
    assert "    | Traceback (most recent call last):\n" in said
    assert "    | ValueError: no weights\n" in said
    crashed = run("check", write(tmp_path / "worse", model_with("__import__('os').abort()"))).stdout
    assert "Fatal Python error: Aborted" in crashed


def test_check_compares_requirements_with_what_is_installed(tmp_path: Path) -> None:
    folder = write(tmp_path / "needy", ECHO, "")
    requirements = folder / "requirements.txt"
    requirements.write_text("msgspec>=0.1  # fine\n--no-binary :none:\n")
    assert lines_of(folder)["requirements"][0] == "note", "it is not pinned"
    (folder / "requirements.lock").touch()
    assert lines_of(folder)["requirements"] == ("ok", "1 package installed")
    requirements.write_text("msgspec<0.1\nno-such-package==1\nother; sys_platform == 'win32'\n")
    state, text = lines_of(folder)["requirements"]
    assert state == "failed"
    assert ", not <0.1; no-such-package is not installed: " in text
    assert text.endswith(f"-m pip install -r {os.path.relpath(requirements)}")
    requirements.write_text("what is this\n")
    assert "requirements.txt:1: 'what is this'" in lines_of(folder)["requirements"][1]


BUILDER = """\
#!/bin/sh
echo "$(basename "$0") $*" >>"$SAID"
[ "$1" = version ] && exit "${ENGINE:-0}"
for last; do :; done
ls "$last" >>"$SAID"
"""


@pytest.fixture
def builders(tmp_path: Path) -> Path:
    """A folder with builders that only note what they are asked."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("docker", "buildah"):
        (folder / name).write_text(BUILDER)
        (folder / name).chmod(0o755)
    return folder


def test_build_hands_a_builder_all_that_it_needs(tmp_path: Path, builders: Path) -> None:
    run("new", "sentiment", "--into", tmp_path)
    said = tmp_path / "said"
    settings = {"PATH": f"{builders}:/usr/bin:/bin", "SAID": str(said)}
    folder = tmp_path / "sentiment"
    built = run("build", folder, "--tag", "acme/sentiment:7", "--", "--no-cache", **settings)
    assert built.stdout.startswith("built acme/sentiment:7\nnext:  docker run ")
    version, build, *files = said.read_text().splitlines()
    assert version == "docker version"
    assert build.startswith("docker build --tag acme/sentiment:7 --no-cache ")
    wheel = f"modelyard-{__version__}-py3-none-any.whl"
    assert files == ["Dockerfile", "model", wheel, "pins.txt", "requirements.lock"]


def test_build_passes_over_a_docker_without_its_engine(tmp_path: Path, builders: Path) -> None:
    run("new", "sentiment", "--into", tmp_path)
    said, folder = tmp_path / "said", tmp_path / "sentiment"
    (builders / "docker").write_text("#!/bin/sh\nexit 1\n")
    settings = {"PATH": f"{builders}:/bin", "SAID": str(said)}
    built = run("build", folder, **settings)
    assert built.stdout == "built modelyard-model-sentiment:1\n"
    assert "buildah build --tag modelyard-model-sentiment:1 --format docker" in said.read_text()
    (builders / "buildah").unlink()
    nothing = run("build", folder, **{**settings, "PATH": str(builders)})
    check_mistake(nothing, "docker, podman or buildah", "`docker version` fails")


def test_a_context_holds_what_runs_here(tmp_path: Path) -> None:
    run("new", "sentiment", "--into", tmp_path)
    context = tmp_path / "context"
    folder = tmp_path / "sentiment"
    assert run("build", folder, "--context", context, "--base", "acme/python").returncode == 0
    assert "ARG PYTHON_IMAGE=acme/python\n" in (context / "Dockerfile").read_text()
    assert not (context / "model" / "tests").exists()
    (context / "model" / "model.toml").write_text("")
    assert (folder / "model.toml").read_text(), "what is kept is a copy"
    unpacked = tmp_path / "unpacked"
    with zipfile.ZipFile(context / f"modelyard-{__version__}-py3-none-any.whl") as wheel:
        wheel.extractall(unpacked)
    ours = {path.relative_to(ROOT / "src") for path in (ROOT / "src").rglob("*.py")}
    assert ours <= {path.relative_to(unpacked) for path in unpacked.rglob("*.py")}
    pins = (context / "pins.txt").read_text().splitlines()
    assert any(pin.startswith("msgspec==") for pin in pins)
    check_mistake(run("build", folder, "--context", context), "cannot be made")


def test_the_dockerfile_passes_the_linter(tmp_path: Path) -> None:
    run("new", "sentiment", "--into", tmp_path)
    (tmp_path / "Dockerfile").write_text(
        run("build", tmp_path / "sentiment", "--dockerfile-only").stdout
    )
    linted = in_folder(tmp_path, "hadolint Dockerfile")
    assert linted.returncode == 0, linted.stdout


def make_wheel(folder: Path, name: str, version: str) -> None:
    """Write a wheel with nothing in it."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        wheel.writestr(f"{info}/METADATA", metadata)
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def test_build_pins_what_a_model_needs_and_says_so(tmp_path: Path) -> None:
    run("new", "sentiment", "--into", tmp_path)
    folder = tmp_path / "sentiment"
    (folder / "requirements.txt").write_text("rare-flower>=1\n")
    for version in ("1.0", "1.5"):
        make_wheel(tmp_path, "rare_flower", version)
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PATH": "/usr/bin:/bin"}
    built = run("build", folder, "--context", tmp_path / "one", **offline)
    assert "requirements.lock: keep it" in built.stderr
    assert (folder / "requirements.lock").read_text() == "rare-flower==1.5\n"
    again = run("build", folder, "--context", tmp_path / "two", **offline)
    assert (again.returncode, again.stderr) == (0, "")
    assert (tmp_path / "two" / "requirements.lock").read_text() == "rare-flower==1.5\n"
    (folder / "requirements.txt").write_text("rare-flower\nother\n")
    stale = run("build", folder, "--context", tmp_path / "three", **offline)
    check_mistake(stale, "requirements.lock has no other", "delete it")
    (folder / "requirements.lock").unlink()
    unknown = run("build", folder, "--context", tmp_path / "four", **offline)
    check_mistake(unknown, "requirements.lock is missing and cannot be written")
