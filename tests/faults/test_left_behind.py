"""What tests start ends when pytest is killed with ``kill -9``, and cannot clean up itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.e2e.conftest import TRICK
from tests.support.server import ROOT, runs, wait_until

# In place of pytest: starts one thing, says so, and would end it in an orderly way.
_PARENT = """
import sys
from pathlib import Path
from tests.support.broker import Broker
from tests.support.cache import RedisServer
from tests.support.server import Server

folder, trick = map(Path, sys.argv[1:])
with {what}:
    print("started", flush=True)
    sys.stdin.read()
"""
_MARK = "STARTED_BY"


class Parent:
    """The process that is killed, and all that came of it, also what has become a daemon."""

    def __init__(self, what: str, folder: Path) -> None:
        self._mark = str(folder)
        self._seen: set[psutil.Process] = set()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PARENT.format(what=what), folder, TRICK],
            cwd=ROOT,
            env={**os.environ, _MARK: self._mark},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait(self) -> None:
        """Wait until it has started what it starts."""
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "started\n"

    def left(self) -> list[psutil.Process]:
        """Give what has been started and still runs."""
        with suppress(psutil.NoSuchProcess):
            self._seen |= {*psutil.Process(self._process.pid).children(recursive=True)}
        for process in psutil.process_iter(["environ"]):
            if (process.info["environ"] or {}).get(_MARK) == self._mark:
                self._seen.add(process)
        return [one for one in self._seen if one.pid != self._process.pid and runs(one)]

    def kill(self) -> None:
        """Kill it, and nothing else."""
        with self._process:  # waits, and closes the pipes; what else holds them may read on
            self._process.kill()


@pytest.fixture
def parent(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Parent]:
    parent = Parent(request.param, tmp_path)
    try:
        parent.wait()
        yield parent
    finally:
        left = parent.left()
        parent.kill()
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()


@pytest.mark.parametrize(
    ("parent", "names"),
    [
        pytest.param("Broker(folder)", {"beam.smp", "epmd"}, marks=pytest.mark.own_broker),
        ("RedisServer(folder)", {"redis-server"}),
        ("Server(trick)", {"modelyard: gateway", "modelyard: runner trick_model 1"}),
    ],
    indirect=["parent"],
)
def test_what_a_killed_test_run_has_started_ends_with_it(parent: Parent, names: set[str]) -> None:
    started = {process.name() for process in parent.left()}
    assert names <= started, started
    parent.kill()
    wait_until(lambda: not parent.left(), what="the end of all that was started")
