"""The promise under faults: exactly one answer, the right one, by the deadline.

Numbers in names are the rows of the table of faults in ``docs/reliability.md``.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
from collections import Counter
from pathlib import Path

import httpx
import psutil
import pytest

from tests.e2e.conftest import TRICK
from tests.support.ledger import Every, Ledger, answer_of
from tests.support.raw import ask_at_once, request_bytes
from tests.support.server import ROOT, Server, runs, wait_for_the_end_of, wait_until


def kill_a_runner(server: Server) -> bool:
    """Kill a runner, if one is up; tells whether it was."""
    runners = [runner for runner in server.runners() if runs(runner)]
    for runner in runners[:1]:
        os.kill(runner.pid, signal.SIGKILL)
    return bool(runners)


def is_ready(server: Server) -> bool:
    """Whether a runner has loaded the model."""
    return server.metric("modelyard_runners", state="ready") > 0


def test_row_1_killed_runners_cost_no_answer(trick: Server) -> None:
    ledger = Ledger(trick.url)
    ledger.run_until(Every(1.0, 5, lambda: is_ready(trick) and kill_a_runner(trick)))
    ledger.check()
    wait_until(
        lambda: trick.metric("modelyard_runner_restarts_total", cause="killed") >= 5,
        what="each to be counted",
    )


def test_row_1_runners_killed_while_they_load_cost_no_answer(trick: Server) -> None:
    killed: set[int] = set()

    def kill_two_in_a_row() -> bool:
        for runner in trick.runners():
            if runner.pid not in killed and len(killed) < 2:
                killed.add(runner.pid)
                os.kill(runner.pid, signal.SIGKILL)
        return len(killed) == 2 and trick.metric("modelyard_runners", state="ready") == 1

    ledger = Ledger(trick.url)
    ledger.run_until(kill_two_in_a_row)
    ledger.check()


async def test_row_2_poison_harms_only_itself(trick: Server, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    ledger = Ledger(trick.url)
    async with httpx.AsyncClient(base_url=trick.url, timeout=60) as client:
        poison = {"nonce": -1, "act": "exit", "diary": str(diary)}
        blocker = ledger.ask(client, {"nonce": 1000, "act": "work", "seconds": 0.2})
        mates = [ledger.ask(client, {"nonce": nonce}) for nonce in range(12)]
        answers = await asyncio.gather(blocker, *mates[:6], ledger.ask(client, poison), *mates[6:])
    poisoned = answers[7]
    assert poisoned is not None
    assert poisoned.status_code == 502
    assert poisoned.json()["code"] == "model_crashed"
    assert ledger.statuses == {200: 13, 502: 1}, ledger
    assert ledger.wrong == 0
    assert len(diary.read_text().splitlines()) == 2


async def test_row_2_a_runner_that_hangs_up_before_it_ends_costs_no_answer(
    trick: Server, tmp_path: Path
) -> None:
    diary, said = tmp_path / "diary", len(trick.output)
    ledger = Ledger(trick.url)
    async with httpx.AsyncClient(base_url=trick.url, timeout=60) as client:
        # After a batch of some milliseconds, a runner gets its next one while it runs one.
        await ledger.ask(client, {"nonce": 0, "act": "work", "seconds": 0.004})
        hang_up = {"nonce": -1, "act": "hang_up", "seconds": 0.3, "diary": str(diary)}
        ending = asyncio.create_task(ledger.ask(client, hang_up))
        await asyncio.to_thread(wait_until, diary.exists, what="the runner to hang up")
        await asyncio.gather(*(ledger.ask(client, {"nonce": nonce}) for nonce in range(1, 41)))
        await ending
    assert ledger.statuses == {200: 41, 502: 1}, ledger
    assert ledger.wrong == 0
    assert "Traceback" not in trick.output[said:]


async def test_row_3_a_hung_model_is_replaced_and_others_are_answered(trick: Server) -> None:
    (runner,) = trick.runners()
    ledger = Ledger(trick.url, timeout_s=1)
    patient = Ledger(trick.url, timeout_s=30)
    async with httpx.AsyncClient(base_url=trick.url, timeout=60) as client:
        blocker = patient.ask(client, {"nonce": 1000, "act": "work", "seconds": 0.2})
        hung = ledger.ask(client, {"nonce": -1, "act": "hang"})
        mates = [patient.ask(client, {"nonce": nonce}) for nonce in range(12)]
        _, answer, *_ = await asyncio.gather(blocker, hung, *mates)
    assert answer is not None
    assert answer.status_code == 504
    assert answer.json()["code"] == "deadline_exceeded"
    assert patient.statuses == {200: 13}, patient
    assert patient.wrong == 0
    wait_until(lambda: not runner.is_running(), what="the hung runner's end")
    assert trick.predict("trick_model", [{"nonce": 5}]).json()["prediction"] == [answer_of(5)]
    assert trick.metric("modelyard_runner_restarts_total", cause="hung") >= 1


async def test_row_4_a_model_that_holds_the_gil_blocks_nobody_else() -> None:
    with Server(TRICK, ROOT / "models" / "fast_iris_model") as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            ledger = Ledger(server.url)
            held = asyncio.create_task(
                ledger.ask(client, {"nonce": 1, "act": "hold_gil", "seconds": 2})
            )
            asked = 0
            while not held.done():
                row = [[5.1, 3.5, 1.4, 0.1 + asked / 1000]]
                body = {"model_name": "fast_iris_model", "input_data": row, "timeout_s": 1}
                response = await client.post("/predict", json=body)
                assert response.status_code == 200
                assert (await client.get("/healthz")).status_code == 200
                asked += 1
            assert asked > 10
            assert ledger.statuses == {200: 1}


def test_row_11_a_client_that_leaves_leaves_nothing_behind(trick: Server, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    host, port = trick.url.removeprefix("http://").split(":")
    for waiting, instance in enumerate(
        [{"nonce": 1, "act": "work", "seconds": 1.0}, {"nonce": 2, "diary": str(diary)}]
    ):
        body = json.dumps({"model_name": "trick_model", "input_data": [instance]})
        with socket.create_connection((host, int(port))) as client:
            client.sendall(
                b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                b"content-length: %d\r\n\r\n%b" % (len(body), body.encode())
            )
            wait_until(lambda: trick.metric("modelyard_in_flight") == 1, what="one under way")
        wait_until(lambda: trick.metric("modelyard_in_flight") == 0, what="nothing under way")
        assert trick.metric("modelyard_requests_total", code="client_gone") == waiting + 1
    assert trick.predict("trick_model", [{"nonce": 3}]).status_code == 200
    assert not diary.exists(), "what waited for the client that left must not have run"


async def test_row_25_a_stampede_runs_once(tmp_path: Path) -> None:
    folder = shutil.copytree(TRICK, tmp_path / "trick_model")
    manifest = folder / "model.toml"
    manifest.write_text(manifest.read_text().replace("ttl_s = 0", "ttl_s = 60"))
    diary = tmp_path / "diary"
    same = {"nonce": 7, "act": "work", "seconds": 0.5, "diary": str(diary)}
    body = json.dumps({"model_name": "trick_model", "input_data": [same]}).encode()
    with Server(folder) as server:
        answers = await ask_at_once(server.url, request_bytes(body), 1000)
        coalesced = server.metric("modelyard_cache_requests_total", use="coalesced")
    assert {answer.status for answer in answers} == {200}
    assert {tuple(answer.json["prediction"]) for answer in answers} == {(answer_of(7),)}
    assert diary.read_text().splitlines() == ["7"]
    uses = Counter(answer.headers["x-cache"] for answer in answers)
    assert uses["miss"] == 1
    assert uses["coalesced"] == coalesced


def test_row_28_a_damaged_artefact_is_refused_and_others_serve(tmp_path: Path) -> None:
    folder = shutil.copytree(ROOT / "models" / "fast_iris_model", tmp_path / "fast_iris_model")
    artefact = folder / "assets" / "iris.onnx"
    content = bytearray(artefact.read_bytes())
    content[100] ^= 1
    artefact.write_bytes(content)
    with Server(folder, TRICK) as server:
        refused = server.predict("fast_iris_model", [[5.1, 3.5, 1.4, 0.2]])
        assert refused.status_code == 503
        assert refused.json()["code"] == "model_not_ready"
        assert "retry-after" in refused.headers
        (version,) = server.http.get("/models/fast_iris_model").json()["versions"]
        assert version["state"] == "failed"
        assert "assets/iris.onnx is damaged" in version["reason"]
        assert "sha256:" in version["reason"]
        assert server.predict("trick_model", [{"nonce": 1}]).status_code == 200
        ready = server.http.get("/readyz")
        assert ready.status_code == 200
        assert ready.json()["models"]["fast_iris_model/1"].startswith("failed: ")
        assert ready.json()["models"]["trick_model/1"] == "ready"


def test_no_runner_survives_its_parent(trick: Server) -> None:
    runners = trick.runners()
    assert runners
    trick.process.kill()
    wait_for_the_end_of(runners)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_finishes_what_is_in_flight(trick: Server, number: signal.Signals) -> None:
    ledger = Ledger(trick.url)
    async with httpx.AsyncClient(base_url=trick.url, timeout=60) as client:
        working = asyncio.create_task(
            ledger.ask(client, {"nonce": 1, "act": "work", "seconds": 1.0})
        )
        await asyncio.to_thread(
            wait_until, lambda: trick.metric("modelyard_in_flight") == 1, what="it to run"
        )
        code = await asyncio.to_thread(trick.stop, number)
        await working
    assert ledger.statuses == {200: 1}
    assert code == 0
    assert not psutil.pid_exists(trick.process.pid)


def test_a_pool_grows_on_backlog(tmp_path: Path) -> None:
    folder = shutil.copytree(TRICK, tmp_path / "trick_model")
    with (folder / "model.toml").open("a") as manifest:
        manifest.write("[scaling]\nmax_runners = 2\n")
    with Server(folder) as server:
        assert len(server.runners()) == 1
        ledger = Ledger(server.url, trick={"act": "work", "seconds": 0.05})
        ledger.run_until(lambda: server.metric("modelyard_runners", state="ready") == 2)
        assert len(server.runners()) == 2
        assert ledger.statuses.keys() == {200}
