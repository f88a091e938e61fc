"""``serve --registry``: what routes and aliases name is fetched, served, and unloaded again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.registry import Commands, write_answers
from tests.support.releases import run
from tests.support.server import Member, complaint_of, wait_until

NAME = "answers"


class Following:
    """A server that follows the registry of its own store, and one that follows the first."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.folder = folder
        self.commands = Commands(folder / "first")
        self.push("1")
        self.route("promote", NAME, "1")
        first = stack.enter_context(self.server("first", "store"))
        second = stack.enter_context(self.server("second", first.url))
        self.servers = [first, second]
        for one in self.servers:
            wait_until(lambda one=one: one.http.get("/readyz").is_success, what="the model")  # type: ignore[misc]

    def server(self, name: str, place: str) -> Member:
        """Give a server with a state of its own; the caller starts it with ``with``."""
        settings = {**Commands(self.folder / name).settings, "MODELYARD_UNLOAD_AFTER_S": "0.3"}
        return Member("serve", "--registry", place, settings=settings)

    def push(self, version: str) -> None:
        self.commands.run("push", write_answers(self.folder / "models" / version, version))

    def route(self, *arguments: str) -> None:
        run(self.commands.settings, "route", *arguments, "--unchecked")

    def answers(self, server: Member, times: int = 20) -> set[str]:
        """Which versions answer; none of the requests fails."""
        asked = [server.predict(NAME, ["a"]) for _ in range(times)]
        assert {one.status_code for one in asked} == {200}, [one.text for one in asked]
        return {one.json()["prediction"][0].removeprefix("from ") for one in asked}

    def wait_for(self, *answering: str, served: set[str]) -> None:
        """Wait until just these versions answer at each server, and are served."""
        for server in self.servers:

            def is_so(server: Member = server) -> bool:
                states = self.states(server)
                up = {version for version, state in states.items() if state == "ready"}
                return self.answers(server) == set(answering) and up == served

            wait_until(is_so, what=f"{answering} of {served}")

    def states(self, server: Member) -> dict[str, str]:
        versions = server.http.get(f"/models/{NAME}").json().get("versions", ())
        return {one["version"]: one["state"] for one in versions}


@pytest.fixture(scope="module")
def following(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Following]:
    with ExitStack() as stack:
        yield Following(stack, tmp_path_factory.mktemp("named"))


def test_versions_come_and_go_as_routes_and_aliases_name_them(following: Following) -> None:
    following.wait_for("1", served={"1"})
    following.push("2")
    following.route("set", NAME, "1=50", "2=50")
    following.wait_for("1", "2", served={"1", "2"})
    following.route("promote", NAME, "2")
    following.wait_for("2", served={"2"})
    following.commands.run("alias", f"{NAME}@1", "old")
    following.wait_for("2", served={"1", "2"})
    for server in following.servers:
        answer = server.predict(NAME, ["a"], model_version="old")
        assert answer.json()["prediction"] == ["from 1"]
    following.commands.run("alias", "--remove", f"{NAME}@old")
    following.wait_for("2", served={"2"})
    following.route("promote", NAME, "1", "--keep-warm", "1h")
    following.wait_for("1", served={"1", "2"})
    following.route("promote", NAME, "2", "--keep-warm", "0s")
    following.wait_for("2", served={"2"})


def test_a_version_that_cannot_be_fetched_takes_nothing_from_the_one_that_was(
    following: Following,
) -> None:
    following.route("promote", NAME, "2")
    following.wait_for("2", served={"2"})
    following.route("promote", NAME, "9")
    for server in following.servers:
        wait_until(
            lambda server=server: following.states(server).get("9") == "failed",  # type: ignore[misc]
            what="the word of it",
        )
        assert following.answers(server) == {"2"}
        (event,) = server.events("version_not_fetched")
        assert "9" in event["why"]
    following.push("9")
    following.wait_for("9", served={"9"})


def test_what_is_unloaded_by_hand_stays_so(following: Following) -> None:
    server = following.servers[0]
    following.route("promote", NAME, "2")
    following.wait_for("2", served={"2"})
    assert server.http.post(f"/models/{NAME}/unload").is_success
    following.push("10")
    following.route("promote", NAME, "10")
    wait_until(lambda: following.states(server).get("10") == "ready", what="the next version")
    assert "2" not in following.states(server)
    assert server.http.post(f"/models/{NAME}/load").is_success
    following.wait_for("10", served={"10"})


def test_a_server_starts_with_what_it_had_while_the_registry_is_away(following: Following) -> None:
    following.route("promote", NAME, "2")
    following.wait_for("2", served={"2"})
    first, second = following.servers
    second.stop()
    first.stop()
    with following.server("second", first.url) as again:
        wait_until(lambda: again.http.get("/readyz").status_code == 200, what="what it had")
        assert following.answers(again) == {"2"}
        assert again.events("routes_not_read")


def test_a_place_that_is_no_registry_is_refused() -> None:
    assert "expected http" in complaint_of("serve", "--registry", "ftp://example")
