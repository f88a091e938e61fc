"""Models that behave oddly, in a real server: nothing else may suffer, and it must end."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

import msgspec
import psutil

from tests.support.server import Server, wait_until

FD_SETSIZE = 1024  # select(2)

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

ECHO = """\
from modelyard import Model

class Served(Model):
    example = [1]

    def predict(self, instances: list[int]) -> list[int]:
        return instances
"""

LITTERS = """\
import weakref
from modelyard import Model

class Node:
    pass

class Served(Model):
    def load(self) -> None:
        litter = Node()
        litter.itself = litter
        weakref.finalize(litter, (self.assets / "freed").touch)

    def predict(self, instances: list[int]) -> list[int]:
        return instances
"""

KEEPS = """\
from hashlib import sha256
from modelyard import Model

class Served(Model):
    kept = ()

    def predict(self, instances: list[memoryview]) -> list[str]:
        self.kept = (*self.kept, *instances)
        return [sha256(self.kept[0]).hexdigest()] * len(instances)
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


def test_what_loading_leaves_behind_is_freed_once_nobody_asks(tmp_path: Path) -> None:
    folder = write(tmp_path / "litters", LITTERS)
    (folder / "assets").mkdir()
    with Server(folder) as server:
        wait_until((folder / "assets" / "freed").exists, what="the litter to be freed")
        assert server.predict("litters", [7]).json()["prediction"] == [7]


def test_a_model_may_keep_its_instances_however_large(tmp_path: Path) -> None:
    with Server(write(tmp_path / "keeps", KEEPS, "[cache]\nttl_s = 0\n")) as server:
        first = bytes(range(256)) * 1000
        for number in range(4):
            content = msgspec.msgpack.encode(
                {
                    "model_name": "keeps",
                    "input_data": [bytes([number]) * 200_000 if number else first],
                }
            )
            answer = server.http.post(
                "/predict", content=content, headers={"content-type": "application/msgpack"}
            )
            found = msgspec.msgpack.decode(answer.content)["prediction"]
            assert found == [sha256(first).hexdigest()]


def test_a_runner_is_replaced_while_more_are_connected_than_select_can_watch(
    tmp_path: Path,
) -> None:
    with Server(write(tmp_path / "echo", ECHO)) as server, ExitStack() as stack:
        url = server.http.base_url
        for _ in range(FD_SETSIZE):
            stack.enter_context(socket.create_connection((url.host, url.port or 80)))
        gateway = psutil.Process(server.process.pid)
        wait_until(lambda: gateway.num_fds() > FD_SETSIZE, what="the gateway to accept them")
        (runner,) = server.runners()
        runner.kill()
        assert server.predict("echo", [7]).json()["prediction"] == [7]
        assert server.metric("modelyard_runner_restarts_total") == 1


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


def state_of(server: Server, name: str) -> tuple[str, int]:
    """Give the state of a model and how many of its runners are there."""
    (version,) = server.http.get(f"/models/{name}").json()["versions"]
    return version["state"], version["capacity"]["runners"]


def test_a_model_that_may_scale_to_zero_costs_nothing_until_it_is_asked(tmp_path: Path) -> None:
    folder = write(tmp_path / "rare", ECHO, "[scaling]\nscale_to_zero = true\nidle_s = 0.2\n")
    with Server(folder) as server:
        assert server.http.get("/readyz").status_code == 200
        assert server.runners() == []
        for number in range(3):
            assert state_of(server, "rare") == ("asleep", 0)
            assert server.predict("rare", [number]).json()["prediction"] == [number]
            wait_until(lambda: state_of(server, "rare") == ("asleep", 0), what="its sleep")
        assert server.runners() == []


def test_a_model_that_cannot_be_woken_says_why(tmp_path: Path) -> None:
    code = ECHO + "    def load(self) -> None:\n        raise ValueError('no weights')\n"
    with Server(write(tmp_path / "broken", code, "[scaling]\nscale_to_zero = true\n")) as server:
        problem = server.predict("broken", [1])
        assert (problem.status_code, problem.json()["code"]) == (503, "model_not_ready")
        assert problem.json()["detail"].endswith(": ValueError; see the server's log")
        assert state_of(server, "broken")[0] == "failed"
        told = server.output.partition("the model cannot be served: ValueError: no weights")[2]
        assert "Traceback (most recent call last)" in told


def test_a_pool_grows_while_requests_wait_and_shrinks_when_idle(tmp_path: Path) -> None:
    more = "[batching]\nmax_batch_size = 1\n[scaling]\nmax_runners = 2\nidle_s = 0.2\n"
    with Server(write(tmp_path / "slow", SLOW, more)) as server:
        wait_until(lambda: state_of(server, "slow") == ("ready", 1), what="the model")
        with ThreadPoolExecutor(4) as threads:
            asked = [threads.submit(server.predict, "slow", [0.5 + n / 100]) for n in range(4)]
            wait_until(lambda: state_of(server, "slow")[1] == 2, what="another runner")
            assert {one.result().status_code for one in asked} == {200}
        wait_until(lambda: state_of(server, "slow") == ("ready", 1), what="one runner less")
