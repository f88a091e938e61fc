"""Routes: from the command line to the versions that answer."""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton

from tests.support.cluster import copy_trick
from tests.support.preloaded import Ended, run
from tests.support.server import Server, wait_until

MODEL = "trick_model"


class Routed:
    """A server of three versions, and the commands that change its routes."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self._settings = {"MODELYARD_STATE_FOLDER": str(folder)}

    def run(self, *arguments: str) -> Ended:
        """Run `modelyard …`."""
        return run(*arguments, env={**os.environ, **self._settings})

    def route(self, *arguments: str) -> str:
        """Run `modelyard route …`, which succeeds."""
        is_change = arguments[0] not in ("show",)
        done = self.run("route", *arguments, *(("--url", self.server.url) if is_change else ()))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def models(self) -> str:
        """Run `modelyard models`."""
        return self.run("models", "--url", self.server.url).stdout

    def version(self, **more: str) -> str:
        """Ask once without a version, or with an alias; the version that answered."""
        body = {"model_name": MODEL, "input_data": [{"nonce": 1}]}
        answer = self.server.http.post("/predict", json=body, headers=more)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["model_version"])

    def versions(self, times: int = 200) -> Counter[str]:
        """Ask often."""
        return Counter(self.version() for _ in range(times))

    def wait_for(self, *versions: str) -> None:
        """Wait until just these versions answer."""
        wait_until(lambda: set(self.versions(30)) == set(versions), what=f"{versions} to answer")


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Routed]:
    folder = tmp_path_factory.mktemp("routes")
    models = [copy_trick(folder, version=version) for version in ("1", "2", "3")]
    with (models[1] / "model.toml").open("a") as manifest:  # the others are always up
        manifest.write("\n[scaling]\nscale_to_zero = true\nidle_s = 0.2\n")
    settings = {
        "MODELYARD_STATE_FOLDER": str(folder / "state"),
        "MODELYARD_STICKY_HEADER": "X-User",
        "MODELYARD_GRPC_PORT": "0",
    }
    with Server(*models, settings=settings) as server:
        yield Routed(server, folder / "state")


@pytest.fixture(autouse=True)
def cleared(routed: Routed) -> Iterator[None]:
    yield
    routed.route("clear", MODEL)
    routed.wait_for("3")


def test_a_canary_is_shifted_promoted_and_rolled_back(routed: Routed) -> None:
    assert routed.route("show") == "no route: requests go to the default version\n"
    assert "1=100" in routed.route("promote", MODEL, "1")
    routed.wait_for("1")
    routed.route("set", MODEL, "1=50", "2=50", "--why", "a new model")
    routed.wait_for("1", "2")
    routed.route("promote", MODEL, "2")
    routed.wait_for("2")
    for more in ((), ("--keep-warm", "1s")):  # which leaves the way back as it was
        routed.route("promote", MODEL, "2", *more)
    said = routed.route("rollback", MODEL)
    assert said == f"{MODEL}: 1=50 2=50 (was: 2=100 keep-warm=1s)\n"
    routed.wait_for("1", "2")
    listed = json.loads(routed.route("show", MODEL, "--json"))
    assert listed[0]["route"]["weights"] == {"1": 50, "2": 50}
    routed.route("set", MODEL, "1=10", "2=90")
    wait_until(lambda: " 90 %" in routed.models(), what="what each version gets")
    assert f"{MODEL}  2* 90 %" in routed.models()
    assert f"{MODEL}  1 10 % " in routed.models()
    (line,) = [line for line in routed.run("audit").stdout.splitlines() if "a new model" in line]
    assert re.search(rf"route set  {MODEL}  +1=50 2=50  +1=100 ", line)


def test_a_shadow_is_asked_too_and_answers_nobody(routed: Routed) -> None:
    routed.route("promote", MODEL, "1")
    routed.wait_for("1")
    refused = routed.run("route", "shadow", MODEL, "1", "--url", routed.server.url)
    assert (refused.returncode, "it needs no copies" in refused.stderr) == (2, True)
    said = routed.route("shadow", MODEL, "2=50")
    assert said == f"{MODEL}: 1=100 shadow=2 (50 %) (was: 1=100)\n"

    def shadowed() -> float:
        assert routed.version() == "1"
        return routed.server.metric(
            "modelyard_shadow_answers_total", model=MODEL, version="2", result="same"
        )

    wait_until(lambda: shadowed() >= 5, what="copies that were answered alike")
    routed.route("shadow", MODEL, "off")


def test_the_version_that_was_stays_up_as_long_as_a_promotion_says(routed: Routed) -> None:
    def state_of(version: str) -> str:
        versions = routed.server.http.get(f"/models/{MODEL}").json()["versions"]
        (state,) = (one["state"] for one in versions if one["version"] == version)
        return str(state)

    routed.route("promote", MODEL, "2")
    routed.wait_for("2")
    said = routed.route("promote", MODEL, "1", "--keep-warm", "1h")
    assert said.startswith(f"{MODEL}: 1=100 keep-warm=1h (was: 2=100)\nkept warm: 2 until 20")
    routed.wait_for("1")
    wait_until(lambda: state_of("2") == "ready", what="the version that was, though nobody asks")
    listed = json.loads(routed.route("show", MODEL, "--json"))
    assert 3500 < listed[0]["warm"]["2"] - time.time() < 3601
    assert "2 until" in routed.route("show")
    routed.route("rollback", MODEL)
    assert json.loads(routed.route("show", MODEL, "--json"))[0]["warm"] == {}
    routed.wait_for("2")
    routed.route("promote", MODEL, "1", "--keep-warm", "1h")
    routed.route("promote", MODEL, "1", "--keep-warm", "0s")
    wait_until(lambda: state_of("2") == "asleep", what="the sleep of one that is kept no more")


def test_a_dry_run_changes_nothing(routed: Routed) -> None:
    said = routed.route("promote", MODEL, "1", "--dry-run")
    assert said == f"{MODEL}: would be: 1=100 (was: no route)\n"
    routes = [one["route"] for one in json.loads(routed.route("show", MODEL, "--json"))]
    assert routes in ([], [None])


REFUSED = [
    (["set", MODEL, "1=50", "2=40"], "add up to 100, not to 90"),
    (["promote", MODEL, "1", "--keep-warm", "soon"], "'soon' is not a valid time"),
    (["promote", MODEL, "1", "--keep-warm", "1h"], "would say what to keep warm"),
    (["set", MODEL, "1=x"], "1=x: a weight is a number from 0 to 100"),
    (["set", MODEL, "1=-5", "2=105"], "1=-5: a weight is a number from 0 to 100"),
    (["set", MODEL, "1"], "'1': expected something like 1=95 2=5"),
    (["promote", MODEL, "7"], "has trick_model 7; it has 1, 2, 3"),
    (["promote", "nobody", "1"], "has nobody 1; nor any other"),
    (["set", MODEL, "1=100", "--guard", "errors=7"], "--guard errors=7: Expected `float` <= 1"),
    (["rollback", "nobody"], "has never had a route"),
    (["shadow", "nobody", "1"], "has no route: give it one first"),
    (["set", MODEL, "1=50", "1=100"], "names 1 twice"),
]


def test_what_is_no_route_is_refused(routed: Routed) -> None:
    for arguments, says in REFUSED:
        done = routed.run("route", *arguments, "--url", routed.server.url)
        assert done.returncode == 2, arguments
        assert says in done.stderr, arguments


def test_a_file_declares_all_routes(routed: Routed, tmp_path: Path) -> None:
    file = tmp_path / "routes.toml"
    file.write_text(
        f'[routes.{MODEL}]\nweights = {{ "1" = 95, "2" = 5 }}\nsticky = "header"\n'
        f"[routes.{MODEL}.guard]\nerrors = 0.05\n"
    )
    apply = ["apply", "-f", str(file), "--url", routed.server.url]
    drift = routed.run(*apply, "--dry-run").stdout
    assert drift == f"{MODEL}: would be: 1=95 2=5 sticky=header guarded (was: no route)\n"
    assert routed.run(*apply).returncode == 0
    assert routed.run(*apply).stdout == "all routes are as the file says\n"
    wait_until(lambda: routed.version(**{"x-user": "ada"}) in ("1", "2"), what="the route")
    assert len({routed.version(**{"x-user": "ada"}) for _ in range(30)}) == 1


def test_a_header_names_the_caller_over_grpc_as_well(routed: Routed) -> None:
    routed.route("set", MODEL, "1=50", "2=50", "--sticky", "header")
    routed.wait_for("1", "2")
    nonce = triton.InferInput("nonce", [1], "INT64")
    nonce.set_data_from_numpy(np.array([1]))
    users = [f"user {number}" for number in range(20)]
    with triton.InferenceServerClient(routed.server.grpc_address) as client:

        def ask(user: str) -> str:
            answer = client.infer(MODEL, [nonce], headers={"x-user": user})
            return str(answer.get_response().model_version)

        assert [ask(user) for user in users] == [routed.version(**{"x-user": u}) for u in users]


def test_a_guard_looks_at_what_the_route_has_sent(routed: Routed) -> None:
    def fail(status: int, user: str, act: str = "raise", **more: str | float) -> None:
        trick = {"nonce": 1, "act": act, "seconds": 0.2}
        body = {"model_name": MODEL, "input_data": [trick], **more}
        for _ in range(20):
            answer = routed.server.http.post("/predict", json=body, headers={"x-user": user})
            assert answer.status_code == status

    def events() -> int:
        return len(routed.server.events("version_taken_out"))

    setting = ("set", MODEL, "1=60", "2=40", "--sticky", "header", "--guard", "over=50")
    routed.route(*setting)
    users = (f"user {number}" for number in range(100))
    wait_until(lambda: routed.version(**{"x-user": "x"}) != "3", what="the route")
    main, other = "", ""
    while not (main and other):
        user = next(users)
        is_main = routed.version(**{"x-user": user}) == "1"
        main, other = (user, other) if is_main else (main, user)
    for _ in range(20):
        routed.version(**{"x-user": main})
    fail(502, other, model_version="2")
    fail(504, other, "work", timeout_s=0.05)
    assert routed.version(**{"x-user": other}) == "2"
    fail(502, other)
    assert routed.version(**{"x-user": other}) == "1"
    assert events() == 1
    routed.route(*setting)
    wait_until(lambda: routed.version(**{"x-user": other}) == "2", what="it to come back")


def test_an_alias_is_asked_for_like_a_version(routed: Routed, tmp_path: Path) -> None:
    body = {"model_name": MODEL, "model_version": "production", "input_data": [{"nonce": 1}]}

    def ask() -> httpx.Response:
        return routed.server.http.post("/predict", json=body)

    unknown = ask()
    assert unknown.status_code == 404
    assert unknown.json()["detail"] == f"{MODEL} has no such version; it has 3, 2, 1"
    pushed = routed.run("registry", "push", str(copy_trick(tmp_path, version="1")))
    assert pushed.returncode == 0, pushed.stderr
    assert routed.run("registry", "alias", f"{MODEL}@1", "production").returncode == 0
    wait_until(lambda: ask().status_code == 200, what="the alias to be known")
    assert ask().json()["model_version"] == "1"
    body["model_version"] = "candidate"
    assert ask().json()["detail"] == f"{MODEL} has no such version; it has 3, 2, 1, production"
