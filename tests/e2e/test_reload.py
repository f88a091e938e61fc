"""``modelyard serve --reload``, and models loaded and unloaded by hand."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.test_command_line import run
from tests.e2e.test_odd_models import write
from tests.support.raw import connect, request_bytes
from tests.support.server import Member, Server, wait_until

CODE = (
    "from modelyard import Model\n\n"
    "class Served(Model):\n"
    "    example = [1]\n"
    "    def predict(self, instances: list[int]) -> list[int]:\n"
    "        return [{number} for _ in instances]\n"
)


def code(number: int) -> str:
    return CODE.replace("{number}", str(number))


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with one model, which answers 1."""
    write(tmp_path / "models" / "one", code(1))
    return tmp_path / "models"


@pytest.fixture
def served(models: Path, stack: ExitStack) -> Member:
    """A server that watches the folder."""
    server = stack.enter_context(Member("serve", models, "--reload"))
    wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
    return server


def says(server: Member, name: str, number: int) -> bool:
    answer = server.predict(name, [0])
    return answer.status_code == 200 and answer.json()["prediction"] == [number]


def states(server: Member) -> dict[str, str]:
    return dict(server.http.get("/readyz").json()["models"])


def test_a_changed_model_takes_over_and_a_broken_one_changes_nothing(
    served: Member, models: Path
) -> None:
    assert says(served, "one", 1)
    source = models / "one" / "src" / "model.py"
    source.write_text(code(2))
    wait_until(lambda: says(served, "one", 2), what="the change")
    source.write_text("raise ValueError('broken on purpose')\n")
    wait_until(lambda: "broken on purpose" in served.output, what="the failure")
    assert says(served, "one", 2)
    assert states(served) == {"one/1": "ready"}
    (models / "one" / "model.toml").write_text("name = \n")
    wait_until(lambda: served.output.count('"reload_failed"') >= 2, what="the other failure")
    assert says(served, "one", 2)
    shutil.rmtree(models / "one")
    write(models / "one", code(3))
    wait_until(lambda: says(served, "one", 3), what="what was mended")
    wait_until(lambda: len(served.runners()) == 1, what="the end of the old runners")


def test_folders_come_and_go(served: Member, models: Path) -> None:
    write(models / "two", code(2))
    wait_until(lambda: says(served, "two", 2), what="the new model")
    shutil.rmtree(models / "two")
    wait_until(lambda: states(served) == {"one/1": "ready"}, what="its end")
    assert served.predict("two", [0]).status_code == 404
    assert says(served, "one", 1)


def test_a_version_that_is_changed_takes_the_place_of_the_old_one(
    served: Member, models: Path
) -> None:
    manifest = models / "one" / "model.toml"
    manifest.write_text(manifest.read_text().replace('version = "1"', 'version = "2"'))
    wait_until(lambda: states(served) == {"one/2": "ready"}, what="the version")
    assert says(served, "one", 1)
    assert served.predict("one", [0], model_version="1").json()["code"] == "version_not_found"


async def test_no_request_is_lost_while_a_model_is_edited(served: Member, models: Path) -> None:
    """Every third edit is broken."""
    answers: Counter[tuple[int, str]] = Counter()
    is_over = asyncio.Event()
    body = json.dumps({"model_name": "one", "input_data": [0]}).encode()

    async def ask_on_and_on() -> None:
        async with await connect(served.url) as line:
            while not is_over.is_set():
                answer = await line.ask(request_bytes(body, "cache-control: no-cache"))
                answers[answer.status, str(answer.json.get("prediction"))] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(16):
            group.create_task(ask_on_and_on())
        source = models / "one" / "src" / "model.py"
        for number in range(2, 8):
            is_broken = number % 3 == 0
            wanted = served.output.count('"reload_failed"') + is_broken
            source.write_text("raise ValueError\n" if is_broken else code(number))

            def is_seen(number: int = number, wanted: int = wanted) -> bool:
                is_served = number % 3 == 0 or answers[200, f"[{number}]"] > 0
                return is_served and served.output.count('"reload_failed"') >= wanted

            await asyncio.to_thread(wait_until, is_seen, what=f"edit {number}")
        is_over.set()
    print(dict(answers))
    assert {status for status, _ in answers} == {200}


TOO = "is one/1 too; change the name or the version of one of them"


def test_a_copied_folder_is_shown_as_failed_and_holds_up_nothing(
    served: Member, models: Path
) -> None:
    """Its name sorts before that of the folder it was copied from."""
    shutil.copytree(models / "one", models / "a_copy")
    wait_until(lambda: states(served).get("a_copy/1", "").endswith(TOO), what="the copy")
    assert states(served)["one/1"] == "ready"
    write(models / "two", code(2))
    wait_until(lambda: says(served, "two", 2), what="another new model")
    (models / "one" / "src" / "model.py").write_text(code(3))
    wait_until(lambda: says(served, "one", 3), what="an edit")
    assert len(served.events("reload_failed")) == 1
    manifest = models / "a_copy" / "model.toml"
    manifest.write_text(manifest.read_text().replace('"one"', '"a_copy"'))
    wait_until(lambda: says(served, "a_copy", 1), what="the copy under a name of its own")
    assert states(served) == dict.fromkeys(("one/1", "two/1", "a_copy/1"), "ready")


def test_a_copy_is_served_once_the_other_has_gone(served: Member, models: Path) -> None:
    shutil.copytree(models / "one", models / "copy")
    wait_until(lambda: states(served).get("copy/1", "").endswith(TOO), what="the copy")
    (models / "copy" / "src" / "model.py").write_text(code(2))
    shutil.rmtree(models / "one")
    wait_until(lambda: says(served, "one", 2), what="the copy to be served")
    wait_until(lambda: states(served) == {"one/1": "ready"}, what="nothing else to be shown")


def test_a_folder_without_models_holds_up_no_other(models: Path, stack: ExitStack) -> None:
    others = models.parent / "others"
    write(others / "two", code(2))
    server = stack.enter_context(Member("serve", models, others, "--reload"))
    wait_until(lambda: says(server, "two", 2), what="the models")
    shutil.rmtree(others / "two")
    wait_until(lambda: states(server) == {"one/1": "ready"}, what="its end")
    (models / "one" / "src" / "model.py").write_text(code(3))
    wait_until(lambda: says(server, "one", 3), what="an edit")
    assert server.events("reload_failed") == []


def reload_failed(server: Member) -> str:
    (version,) = server.http.get("/models/one").json()["versions"]
    assert version["state"] == "ready"
    return str(version["reload_failed"])


def test_the_list_of_models_tells_that_an_edit_is_not_served(served: Member, models: Path) -> None:
    assert reload_failed(served) == ""
    source = models / "one" / "src" / "model.py"
    source.write_text("raise ValueError('broken on purpose')\n")
    wait_until(lambda: reload_failed(served), what="the failure")
    assert reload_failed(served) == "ValueError; see the server's log"
    row = run("models", "--url", served.url).stdout.splitlines()[1]
    assert row.endswith("serves an older state of its folder: ValueError; see the server's log")
    source.write_text(code(2))
    wait_until(lambda: says(served, "one", 2), what="what was mended")
    assert reload_failed(served) == ""


def test_a_model_added_since_the_start_is_loaded_by_hand(models: Path, stack: ExitStack) -> None:
    server = stack.enter_context(Server(models))
    wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
    write(models / "two", code(2))
    assert server.http.post("/models/two/load").status_code == 200
    assert says(server, "two", 2)
    write(models / "three", code(3))
    assert server.http.post("/v2/repository/models/three/load").status_code == 200
    assert says(server, "three", 3)
    (event,) = wait_until(
        lambda: [one for one in server.events("loaded_by_hand") if one["model"] == "two"],
        what="a word in the log",
    )
    assert event["folder"] == "two"
    write(models / "bad", code(4), "[limits]\ntimeout_s = -1\n")
    failed = server.http.post("/models/bad/load")
    assert (failed.status_code, failed.json()["code"]) == (503, "model_not_ready")
    assert "limits.timeout_s" in failed.json()["detail"]
    assert "limits.timeout_s" in states(server)["bad/1"]
    shutil.copytree(models / "one", models / "copy")
    assert TOO in server.http.post("/models/copy/load").json()["detail"]
    assert server.http.post("/models/one/load").status_code == 200, "the copy is no hindrance"
    assert server.http.post("/models/nobody/load").status_code == 404


def test_models_are_loaded_and_unloaded_by_hand(models: Path, stack: ExitStack) -> None:
    server = stack.enter_context(Server(models))
    wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
    source = models / "one" / "src" / "model.py"
    source.write_text(code(2))
    assert says(server, "one", 1)
    loaded = server.http.post("/models/one/load")
    assert (loaded.status_code, loaded.json()["versions"][0]["state"]) == (200, "ready")
    assert says(server, "one", 2)
    source.write_text("raise ValueError('broken on purpose')\n")
    failed = server.http.post("/models/one/load")
    assert (failed.status_code, failed.json()["code"]) == (503, "model_not_ready")
    assert "cannot be loaded: ValueError; see the server's log" in failed.json()["detail"]
    assert "broken on purpose" not in failed.text
    (event,) = wait_until(lambda: server.events("load_by_hand_failed"), what="a word in the log")
    assert "broken on purpose" in event["reason"]
    assert says(server, "one", 2)
    assert server.http.post("/models/one/unload").status_code == 204
    (event,) = wait_until(lambda: server.events("unloaded_by_hand"), what="a word in the log")
    assert event["model"] == "one"
    assert server.predict("one", [0]).json()["code"] == "model_not_found"
    assert server.http.post("/models/one/unload").status_code == 404
    wait_until(lambda: not server.runners(), what="the end of its runner")
    source.write_text(code(3))
    assert server.http.post("/models/one/load").status_code == 200
    assert says(server, "one", 3)
    assert server.http.post("/models/nobody/load").json()["code"] == "model_not_found"


@pytest.fixture
def exposed(models: Path) -> Iterator[Member]:
    with Member("serve", models, "--host", "0.0.0.0", "--auth", "none") as server:
        server.url = server.url.replace("0.0.0.0", "127.0.0.1")
        yield server


def test_nobody_from_elsewhere_unloads_a_model(exposed: Member) -> None:
    exposed.http.base_url = exposed.url
    wait_until(lambda: exposed.http.get("/readyz").status_code == 200, what="the model")
    assert exposed.http.post("/models/one/unload").status_code == 404
    assert says(exposed, "one", 1)
