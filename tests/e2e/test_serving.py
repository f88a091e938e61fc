"""``modelyard serve`` when not all is well, when it is told to stop, and when a page calls it."""

from __future__ import annotations

import shutil
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.e2e.test_command_line import check_mistake, run
from tests.e2e.test_odd_models import ECHO, SLOW, write
from tests.support.server import Member, Server, wait_until

PAGE = "https://shop.example"
BAD = "[limits]\ntimeout_s = -1\n"


def test_one_bad_manifest_fails_that_model_alone(tmp_path: Path) -> None:
    write(tmp_path / "good", ECHO)
    write(tmp_path / "bad", ECHO, BAD)
    with Server(tmp_path) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the good model")
        ready = server.http.get("/readyz").json()
        assert ready["status"] == "degraded"
        assert ready["models"]["good/1"] == "ready"
        reason = ready["models"]["bad/1"]
        assert reason.startswith("failed: ")
        assert "model.toml:" in reason
        assert "limits.timeout_s" in reason
        assert reason.removeprefix("failed: ") in server.output
        assert server.predict("good", [7]).json()["prediction"] == [7]
        refused = server.predict("bad", [7])
        assert (refused.status_code, refused.json()["code"]) == (503, "model_not_ready")
        assert "limits.timeout_s" in refused.json()["detail"]


def test_strict_starts_nothing_while_a_manifest_is_bad(tmp_path: Path) -> None:
    write(tmp_path / "good", ECHO)
    write(tmp_path / "bad", ECHO, BAD)
    check_mistake(run("serve", tmp_path, "--strict"), "bad/model.toml", "limits.timeout_s")
    write(tmp_path / "all" / "bad", ECHO, BAD)
    write(tmp_path / "all" / "worse", ECHO, BAD)
    all_bad = run("serve", tmp_path / "all")
    assert (all_bad.returncode, all_bad.stdout) == (2, "")
    lines = all_bad.stderr.splitlines()
    assert all("limits.timeout_s" in line for line in lines)
    assert ["/bad/" in line or "/worse/" in line for line in lines] == [True, True]


def test_of_two_with_one_name_and_version_the_second_fails_and_names_the_first(
    tmp_path: Path,
) -> None:
    write(tmp_path / "dice", ECHO)
    shutil.copytree(tmp_path / "dice", tmp_path / "dice_copy")
    write(tmp_path / "other", ECHO)
    with Server(tmp_path) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the good models")
        states = server.http.get("/readyz").json()["models"]
        reason = states.pop("dice_copy/1")
        assert states == {"dice/1": "ready", "other/1": "ready"}
        assert reason.startswith("failed: ")
        sentence = "dice is dice/1 too; change the name or the version of one of them"
        assert reason.endswith(sentence)
        assert server.predict("dice", [7]).json()["prediction"] == [7]
        assert server.output.count(sentence) == 1
    check_mistake(run("serve", tmp_path, "--strict"), "dice_copy: ", sentence)
    checked = run("check", tmp_path / "dice", tmp_path / "dice_copy")
    assert checked.returncode == 1
    (failed,) = (line for line in checked.stdout.splitlines() if line.startswith("  failed"))
    assert failed.endswith(sentence)


def test_a_worker_without_a_broker_says_where_it_looks_and_then_ever_less(tmp_path: Path) -> None:
    folder = write(tmp_path / "echo", ECHO)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    url = f"amqp://me:hunter2@127.0.0.1:{port}/team"
    with Member("worker", folder, settings={"MODELYARD_AMQP_URL": url}) as worker:

        def told() -> list[dict[str, Any]]:
            found = worker.events("broker_unreachable")
            return [one for one in found if one["role"] == "announcer"]

        wait_until(lambda: len(told()) == 4, what="four complaints")
        assert [one["tries"] for one in told()] == [1, 2, 4, 8]
        assert {one["address"] for one in told()} == {f"amqp://127.0.0.1:{port}/team"}
        hint = "is a RabbitMQ running there? the setting amqp_url names another"
        assert [one.get("hint") for one in told()] == [hint, None, None, None]
        assert "hunter2" not in worker.output


def test_the_first_ctrl_c_says_what_is_finished_and_finishes_it(tmp_path: Path) -> None:
    with Server(write(tmp_path / "slow", SLOW)) as server, ThreadPoolExecutor(1) as thread:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
        asked = thread.submit(server.predict, "slow", [1.0])
        wait_until(lambda: in_flight(server) == 1, what="a request under way")
        server.process.send_signal(signal.SIGINT)
        assert asked.result().json()["prediction"] == [1.0]
        assert server.process.wait(60) == 0
    assert "Finishing 1 request, for 30 s at most; Ctrl-C ends at once.\n" in server.output


def test_the_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    with Server(write(tmp_path / "slow", SLOW)) as server, ThreadPoolExecutor(1) as thread:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
        asked = thread.submit(server.predict, "slow", [25.0])
        wait_until(lambda: in_flight(server) == 1, what="a request under way")
        server.process.send_signal(signal.SIGINT)
        wait_until(lambda: "Finishing 1 request" in server.output, what="what is finished")
        server.process.send_signal(signal.SIGINT)
        assert asked.result().json()["code"] == "shutting_down"
        assert server.process.wait(60) == 0


def in_flight(server: Server) -> int:
    (model,) = server.http.get("/models").json()["models"]
    count: int = model["versions"][0]["capacity"]["in_flight"]
    return count


def test_pages_of_other_origins_may_call_if_a_setting_says_so(tmp_path: Path) -> None:
    settings = {"MODELYARD_CORS_ORIGINS": PAGE}
    with Server(write(tmp_path / "echo", ECHO), settings=settings) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
        asked = {
            "origin": PAGE,
            "access-control-request-method": "POST",
            "access-control-request-headers": "content-type",
        }
        preflight = server.http.options("/predict", headers=asked)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == PAGE
        for path in ("/models", "/readyz"):
            answer = server.http.get(path, headers={"origin": PAGE})
            assert answer.headers["access-control-allow-origin"] == PAGE
        known = {"origin": PAGE}
        for answer in (  # parsed, known by its head, refused, and refused for its head
            server.predict("echo", [7], headers=known),
            server.predict("echo", [7], headers=known),
            server.predict("echo", ["x"], headers=known),
            server.http.post("/predict", content=b"x", headers={**known, "content-type": "x/y"}),
        ):
            assert answer.headers["access-control-allow-origin"] == PAGE, answer
            assert "X-Request-Id" in answer.headers["access-control-expose-headers"]
        assert "access-control-allow-origin" not in server.predict("echo", [7]).headers
        stranger = server.http.get("/models", headers={"origin": "https://other.example"})
        assert "access-control-allow-origin" not in stranger.headers
