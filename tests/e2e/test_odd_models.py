"""Models that behave oddly, in a real server: nothing else may suffer, and it must end."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.server import Server, wait_until

FORKS = """\
import os, time
from modelyard import Model

class Served(Model):
    def load(self) -> None:
        if os.fork() == 0:
            os.setsid()
            time.sleep(3)
            os._exit(0)

    def predict(self, instances: list[int]) -> list[int]:
        return instances
"""

SLOW = """\
import time
from modelyard import Model

class Served(Model):
    def predict(self, instances: list[float]) -> list[float]:
        time.sleep(max(instances))
        return instances
"""

TENSOR = """\
from typing import Annotated
import numpy as np
from modelyard import Model, Tensor

class Served(Model):
    example = [[0, 1]]

    def predict(
        self, instances: Annotated[np.ndarray, Tensor("uint64", (2,))]
    ) -> Annotated[np.ndarray, Tensor("float32", ())]:
        return instances.sum(axis=1).astype("float32")
"""


def write(folder: Path, code: str, more: str = "") -> Path:
    """Write a model folder."""
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "model.py").write_text(code)
    name = folder.name
    (folder / "model.toml").write_text(
        f'name = "{name}"\nversion = "1"\nclass = "model:Served"\n{more}'
    )
    return folder


def test_a_runner_whose_child_got_away_is_replaced(tmp_path: Path) -> None:
    with Server(write(tmp_path / "forks", FORKS)) as server:
        runner = next(r for r in server.runners() if r.ppid() == server.process.pid)
        runner.kill()
        assert server.predict("forks", [7]).json()["prediction"] == [7]
        assert server.metric("modelyard_runner_restarts_total", cause="killed") == 1


def test_impatient_callers_do_not_keep_killing_a_slow_model(tmp_path: Path) -> None:
    folder = write(tmp_path / "slow", SLOW, "[limits]\ntimeout_s = 8\n[cache]\nttl_s = 0\n")
    with Server(folder) as server:
        late = [server.predict("slow", [2.0], timeout_s=0.05).status_code for _ in range(3)]
        assert late == [504] * 3
        assert server.predict("slow", [2.0], timeout_s=20).json()["prediction"] == [2.0]
        assert server.metric("modelyard_runner_restarts_total", cause="hung") <= 1


def test_arrays_go_in_and_out(tmp_path: Path) -> None:
    with Server(write(tmp_path / "tensor", TENSOR)) as server:
        assert server.predict("tensor", [[1, 2], [3, 4]]).json()["prediction"] == [3.0, 7.0]
        for wrong in ([[1]], [[1, -1]], [[1, 2**64]], [[1, 2.5]]):
            answer = server.predict("tensor", wrong)
            assert answer.status_code in (400, 422), answer.text
        assert server.metric("modelyard_runner_restarts_total") == 0


def test_a_drain_that_runs_out_still_answers_with_a_problem(tmp_path: Path) -> None:
    folder = write(tmp_path / "slow", SLOW)
    with Server(folder, settings={"MODELYARD_DRAIN_S": "1"}) as server, ThreadPoolExecutor() as one:
        asked = one.submit(server.predict, "slow", [4.0])
        wait_until(lambda: server.metric("modelyard_in_flight") == 1, what="it to run")
        assert server.stop() == 0
        assert asked.result().status_code == 503
        assert asked.result().json()["code"] == "shutting_down"
