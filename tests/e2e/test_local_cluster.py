"""``make cluster``, used as a developer does: started, asked at both gateways, ended."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest

from tests.e2e.test_load_test import MODELS, load
from tests.e2e.test_readme import Copy, execute
from tests.support import bound
from tests.support.ports import free_port
from tests.support.server import (
    PATIENCE_S,
    ROOT,
    runs,
    wait_for_the_end_of,
    wait_until,
)

IRIS = {"model_name": "fast_iris_model", "input_data": [[5.1, 3.5, 1.4, 0.2], [6.7, 3, 5.2, 2.3]]}


class Run:
    """``make cluster`` in a session of its own, as under a terminal."""

    def __init__(self, *variables: str) -> None:
        # The environment is the tests' own: `make` must not install into it.
        environment = {**os.environ, "MAKEFLAGS": "--old-file=.venv/.run"}
        self.make = bound.start(
            ["make", "cluster", *variables],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def output(self) -> str:
        """All lines so far."""
        return "".join(self._lines)

    def wait_for(self, text: str) -> None:
        """Wait until ``text`` was printed."""
        wait_until(
            lambda: text in self.output or self.make.poll() is not None, what=f"{text!r} of make"
        )
        assert text in self.output, self.output

    def family(self) -> list[psutil.Process]:
        """All that was started, the launcher first."""
        return psutil.Process(self.make.pid).children(recursive=True)

    def finish(self) -> int:
        """Wait until it has ended by itself; gives make's exit code."""
        code = self.make.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return code

    def _read(self) -> None:
        assert self.make.stdout is not None
        with self.make.stdout as lines:
            self._lines.extend(lines)


def title_of(process: psutil.Process) -> str:
    """Give how a process calls itself; nothing if it has just ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def start(stack: ExitStack, *variables: str) -> Run:
    """Start, and should the test fail, end it all the same."""
    run = Run(*variables)

    def end() -> None:
        if run.make.poll() is None:
            os.killpg(run.make.pid, signal.SIGTERM)
        run.finish()

    stack.callback(end)
    return run


def test_it_serves_outlives_a_worker_and_ends_at_sigterm(stack: ExitStack, tmp_path: Path) -> None:
    run = start(stack, "PORT=0")
    run.wait_for("Ctrl-C ends them all.")
    urls = re.findall(r"http://\S+", run.output.partition("Modelyard is at ")[2].splitlines()[0])
    assert len(set(urls)) == 2
    for url in urls:
        assert httpx.post(f"{url}/predict", json=IRIS).json()["prediction"] == [0, 2]
        assert list(httpx.get(f"{url}/readyz").json()["models"].values()) == ["ready"] * 3
    suggested = re.findall(r"^  (curl .*)", run.output, re.MULTILINE)
    assert len(suggested) == 2
    for command in suggested:
        answer = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
        assert '"prediction":[0]' in answer.stdout
    check_the_page(run, urls)
    check_the_load_test(urls[0], tmp_path / "report.html")
    replace_the_fast_worker(run, urls[0])
    launcher, *members = run.family()
    titles = [title_of(member) for member in members]
    for title in (
        "-s rabbit boot",
        "redis-server",
        *["modelyard: gateway"] * 2,
        "modelyard: runner",
    ):
        titles.remove(next(found for found in titles if title in found))
    launcher.terminate()
    assert run.finish() == 0
    wait_for_the_end_of(members)


class Page(Copy):
    """What a page does where `make cluster` runs already."""

    def do(self, command: str, expected: str) -> None:
        """Run a command."""
        if command != "make cluster":
            super().do(command, expected)


def check_the_page(run: Run, urls: list[str]) -> None:
    """Run every command of the page about it; its last ones join the same broker."""
    (amqp_url,) = re.findall("MODELYARD_AMQP_URL=(.*)", run.output)
    replacements = {port: str(free_port()) for port in ("8002", "8101")}
    ports = [url.rpartition(":")[2] for url in urls]
    replacements |= dict(zip(("8000", "8001"), ports, strict=True))
    replacements["amqp://guest:guest@127.0.0.1:5672/"] = amqp_url
    page = Page(ROOT)
    text = (ROOT / "docs" / "cluster.md").read_text()
    assert "$ make cluster\n" in text
    page.do(f"export MODELYARD_PORT={ports[0]}", "")
    try:
        execute(text, page, replacements)
    finally:
        page.stop()


def check_the_load_test(url: str, report: Path) -> None:
    """Load it: no failure, and there is a report."""
    done = load(url, "USERS=12", "SECONDS=5", f"ARGS=--json --html {report}")
    assert done.returncode == 0, done.stderr
    seen = {entry["name"]: entry for entry in json.loads(done.stdout)}
    assert sorted(seen) == MODELS
    assert all(entry["num_requests"] > 0 == entry["num_failures"] for entry in seen.values())
    page = report.read_text(encoding="utf-8")
    assert all(name in page for name in MODELS)


def replace_the_fast_worker(run: Run, url: str) -> None:
    """Kill a worker, see that it is missed, and start another as the output says."""
    (worker,) = (
        member
        for member in run.family()
        if title_of(member).startswith("modelyard: worker fast_iris_model")
    )
    worker.kill()
    run.wait_for("worker fast_iris_model/1 has ended; the others go on")
    wait_for_state("stopped", url)
    unknown = IRIS | {"input_data": [[1, 2, 3, 4]]}  # no cache knows it
    assert httpx.post(f"{url}/predict", json=unknown).status_code == 503
    assert httpx.post(f"{url}/predict", json=IRIS | {"model_name": "slow_iris_model"}).is_success
    advice = run.output.partition("joins with:\n")[2].partition("Ctrl-C")[0]
    commands = advice.strip().replace("  .venv", "exec .venv")
    with subprocess.Popen(["bash", "-c", commands], cwd=ROOT) as joined:
        try:
            wait_for_state("ready", url)
            assert httpx.post(f"{url}/predict", json=unknown).is_success
        finally:
            joined.terminate()


def wait_for_state(state: str, url: str) -> None:
    """Wait until a gateway says this of the fast model."""

    def is_so() -> bool:
        (version,) = http.get(f"{url}/models/fast_iris_model").json()["versions"]
        return bool(version["state"] == state)

    with httpx.Client() as http:
        wait_until(is_so, what=f"the fast model to be {state}")


def test_ctrl_c_while_it_starts_leaves_nothing(stack: ExitStack) -> None:
    run = start(stack, "PORT=0")
    run.wait_for("RabbitMQ")
    family = run.family()
    os.killpg(run.make.pid, signal.SIGINT)  # what a terminal does
    run.finish()
    assert "Modelyard is at" not in run.output
    wait_for_the_end_of(family)


@pytest.mark.parametrize("killed", ["make", "launcher"])
def test_kill_9_leaves_no_process(
    stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: str
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # nobody removes the launcher's folder
    run = start(stack, "PORT=0", "MODELS=models/fast_iris_model")
    run.wait_for("Ctrl-C ends them all.")
    family = run.family()
    assert {"epmd", "beam.smp", "redis-server"} <= {member.name() for member in family}
    (run.make if killed == "make" else family[0]).kill()
    wait_until(lambda: not any(map(runs, family)), what="the end of all")


def test_many_signals_at_once_end_it_like_one(stack: ExitStack) -> None:
    run = start(stack, "PORT=0")
    run.wait_for("RabbitMQ")  # which takes its time to end
    launcher, *members = run.family()
    for number in range(2000):  # one has to meet the handler of another
        launcher.terminate()
        if number % 50 == 0:
            threading.Event().wait(0.005)
    assert run.finish() == 0
    wait_for_the_end_of(members)


def test_a_member_that_dies_at_start_is_named_with_its_last_lines(
    stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "redis-server"
    broken.write_text("#!/bin/sh\necho starting; echo no such port >&2; exit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    run = start(stack, "PORT=0")
    run.wait_for("ending")
    assert run.finish() != 0
    assert (
        "cluster: redis ended while it started, and said:\nstarting\nno such port\n" in run.output
    )
    assert "cluster                          | ended" in run.output


def test_what_is_not_installed_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deploy.local"],
        cwd=ROOT,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 1
    assert "redis-server is missing" in done.stderr
    assert "Traceback" not in done.stderr
