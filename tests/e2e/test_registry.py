"""The registry: versions pushed, looked at and fetched, on the store and through a gateway."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.support.registry import Commands, write_answers
from tests.support.server import ROOT, Server, complaint_of, wait_until

IRIS = ROOT / "models" / "fast_iris_model"


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Commands:
    """The registry on the store."""
    commands = Commands(tmp_path_factory.mktemp("registry"))
    commands.run("push", IRIS)
    return commands


@pytest.fixture(scope="module")
def server(own: Commands) -> Iterator[Server]:
    """Serves what is in the registry, and the registry."""
    settings = {**own.settings, "MODELYARD_MAX_ARTEFACT_MB": "30"}
    with Server(Path("fast_iris_model@1"), settings=settings) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
        yield server


@pytest.fixture(params=["store", "gateway"])
def registry(
    request: pytest.FixtureRequest, own: Commands, server: Server, tmp_path: Path
) -> Commands:
    if request.param == "store":
        return own
    found = Commands(tmp_path, url=server.url)
    found.artefacts = own.artefacts
    return found


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A model's name of the test's own: all share a registry."""
    return f"m{digest_of(request.node.name.encode())[:12]}"


def listed(registry: Commands, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(registry.run("list", name, "--json"))
    return found


def test_a_pushed_model_is_listed_shown_and_pulled_as_it_was(
    registry: Commands, tmp_path: Path, name: str
) -> None:
    folder = write_answers(tmp_path / "model", "1", name=name)
    (folder / "tests").mkdir()
    (folder / "tests" / "test_it.py").write_text("")
    pushed = registry.run("push", folder, "--commit", "4f5e", "--run", "training 7")
    digest = pushed.split()[-1]
    assert registry.run("push", folder).split() == [f"{name}@1", digest]  # nothing is sent again
    (found,) = listed(registry, name)
    assert (found["version"], found["digest"]) == ("1", digest)
    shown = registry.run("show", f"{name}@1")
    for part in (digest, "4f5e", "training 7", "src/model.py"):
        assert part in shown
    into = tmp_path / "pulled"
    registry.run("pull", f"{name}@1", "--into", into)
    paths = {path.relative_to(into) for path in into.rglob("*") if path.is_file()}
    assert {str(path) for path in paths} == {
        *("model.toml", "src/model.py", "src/nothing.py", "assets/words.txt")
    }
    for path in paths:
        assert (into / path).read_bytes() == (folder / path).read_bytes()
    assert "4 files" in registry.run("verify", f"{name}@1")
    assert "not empty" in registry.refuse("pull", f"{name}@1", "--into", into)


def test_with_check_a_model_is_loaded_first_and_its_schemas_are_kept(
    own: Commands, tmp_path: Path, name: str
) -> None:
    own.run("push", write_answers(tmp_path / "1", "1", name=name), "--check")
    schema = json.loads(own.run("show", f"{name}@1", "--json"))["contents"]["schema"]
    assert schema["example"] == ["a"]
    assert schema["output"]["items"] == {"type": "string"}
    broken = write_answers(tmp_path / "2", "2", name=name)
    (broken / "src" / "model.py").write_text("raise RuntimeError('out of order')")
    assert "out of order" in own.refuse("push", broken, "--check")
    assert [one["version"] for one in listed(own, name)] == ["1"]


def test_a_version_that_is_there_with_another_digest_is_refused(
    registry: Commands, tmp_path: Path, name: str
) -> None:
    registry.run("push", write_answers(tmp_path / "a", "1", name=name))
    before = listed(registry, name)
    told = registry.refuse("push", write_answers(tmp_path / "b", "1", "other", name=name))
    assert "a version does not change" in told  # the one line: nothing was sent before
    assert listed(registry, name) == before


def test_aliases_are_set_moved_and_removed_with_a_history(
    registry: Commands, tmp_path: Path, name: str
) -> None:
    for version in ("1", "2"):
        registry.run("push", write_answers(tmp_path / version, version, name=name))
    registry.run("alias", f"{name}@1", "prod", "--why", "the first")
    assert "was 1" in registry.run("alias", f"{name}@2", "prod", "--why", "the better one")
    assert [one["aliases"] for one in listed(registry, name)] == [[], ["prod"]]
    assert f"{name}@2" in registry.run("show", f"{name}@prod")
    registry.run("alias", "--remove", f"{name}@prod", "--why", "over")
    history = registry.run("show", name)
    for part in ("version pushed 1", "alias set prod=2, was prod=1: the better one", "over"):
        assert part in history


def test_what_is_unknown_is_told_with_what_there_is(
    registry: Commands, tmp_path: Path, name: str
) -> None:
    registry.run("push", write_answers(tmp_path / "1", "1", name=name))
    registry.run("alias", f"{name}@1", "prod")
    for command in ("show", "pull", "verify"):
        told = registry.refuse(command, f"{name}@nothing")
        assert "its versions: 1; its aliases: prod (1)" in told
    assert "no model nothing" in registry.refuse("show", "nothing@1")


def test_an_unknown_version_is_a_404_over_http(server: Server) -> None:
    answer = server.http.get("/registry/models/fast_iris_model/versions/nothing")
    assert (answer.status_code, answer.json()["code"]) == (404, "version_not_found")
    assert "its versions: 1" in answer.json()["detail"]
    answer = server.http.get("/registry/models/nothing")
    assert (answer.status_code, answer.json()["code"]) == (404, "model_not_found")


def test_a_damaged_artefact_is_refused_by_name_before_anything_runs(
    registry: Commands, tmp_path: Path, name: str
) -> None:
    folder = write_answers(tmp_path / "model", "1", name=name)
    registry.run("push", folder)
    code = (folder / "src" / "model.py").read_bytes()
    place = registry.file_of(digest_of(code))
    marker = tmp_path / "ran"
    place.write_bytes(f"open({str(marker)!r}, 'w')\n".encode().ljust(len(code), b"#"))
    into = tmp_path / "pulled"
    assert "src/model.py is damaged" in registry.refuse("verify", f"{name}@1")
    assert "src/model.py is damaged" in registry.refuse("pull", f"{name}@1", "--into", into)
    assert not into.exists()
    for command in ("serve", "worker"):
        told = complaint_of(command, f"{name}@1", settings=registry.settings)
        assert "src/model.py is damaged" in told
    place.unlink()
    assert "the place of the artefacts cannot read" in registry.refuse("verify", f"{name}@1")
    assert not marker.exists()


def contents_of(*paths: str, **more: Any) -> dict[str, Any]:
    toml = b'name = "bad"\nversion = "1"\n'
    files = [
        {"path": path, "digest": f"sha256:{digest_of(toml)}", "size": len(toml)} for path in paths
    ]
    return {"files": files, **more}


@pytest.mark.parametrize(
    ("contents", "problem"),
    [
        (contents_of("model.toml", "../out"), "'../out' is not relative"),
        (contents_of("model.toml", "a/../../out"), "leaves it"),
        (contents_of("model.toml", "/etc/passwd"), "is not relative"),
        (contents_of("model.toml", "a//b"), "is not relative"),
        (contents_of("model.toml", "a\\b"), "no path here may have"),
        (contents_of("model.toml", "a\0b"), "no path here may have"),
        (contents_of("model.toml", "src/.hidden"), "is hidden"),
        (contents_of("model.toml", "a", "a/b"), "is a file, and a folder"),
        (contents_of("model.toml", "a", "a"), "listed twice"),
        (contents_of("model.toml", "a/" * 600 + "b"), "is longer than"),
        (contents_of("model.toml", "b" * 300), "is longer than"),
        (contents_of("model.toml", *map(str, range(10_001))), "are too many"),
        (contents_of("a"), "no model.toml"),
        (contents_of("model.toml"), "has not been sent"),
        (contents_of(), "no model.toml"),
        ({"files": [{"path": "a", "digest": "md5:1", "size": 1}]}, "Expected `str` matching"),
        ({"files": [{"path": "a", "size": -1}]}, "int"),
        ({"files": 3}, "Expected `array`"),
        (contents_of("model.toml", link="a"), "unknown field"),
    ],
)
def test_contents_that_no_version_may_have_are_refused_by_name(
    server: Server, contents: dict[str, Any], problem: str
) -> None:
    answer = server.http.put("/registry/models/bad/versions/1", json=contents)
    assert answer.status_code == 422, answer.text
    assert problem in answer.json()["detail"]
    assert server.http.get("/registry/models/bad").status_code == 404


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"files":["\xc3b"]}', b"[" * 100_000])
def test_a_body_that_is_no_json_is_the_callers_mistake(server: Server, body: bytes) -> None:
    answer = server.http.put("/registry/models/bad/versions/1", content=body)
    assert answer.status_code in {400, 422}, answer.text


@pytest.mark.parametrize("place", ["Bad/versions/1", "bad/versions/..%2F1", "bad/versions/A"])
def test_names_that_are_none_are_refused(server: Server, place: str) -> None:
    answer = server.http.put(f"/registry/models/{place}", json=contents_of("model.toml"))
    assert answer.status_code in {404, 422}


def test_an_artefact_is_taken_only_whole_right_and_within_its_limit(server: Server) -> None:
    put, data = server.http.put, b"x" * 100_000
    path = f"/registry/blobs/sha256/{digest_of(data)}"
    assert server.http.head(path).status_code == 404
    wrong = put(path, content=b"y" * 100_000)
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_input")
    assert "is damaged" in wrong.json()["detail"]
    assert server.http.head(path).status_code == 404
    assert put(path, content=data).status_code == 204
    assert server.http.head(path).status_code == 200
    assert put("/registry/blobs/sha256/short", content=data).status_code == 422
    large = put(f"/registry/blobs/sha256/{'0' * 64}", content=b"z" * 30_000_001)
    assert (large.status_code, large.json()["code"]) == (413, "too_large")
    chunked = put(path, content=iter([data]))
    assert (chunked.status_code, chunked.json()["code"]) == (400, "malformed")


def test_a_push_that_is_killed_leaves_nothing_to_see_and_goes_on_where_it_was(
    own: Commands, server: Server, tmp_path: Path, name: str
) -> None:
    folder = write_answers(tmp_path / "model", "1", name=name)
    for number in range(6):
        (folder / "assets" / f"{number}.bin").write_bytes(bytes([number]) * 20_000_000)
    through = Commands(tmp_path, url=server.url)
    with through.start("push", folder) as pushing:
        assert pushing.stdout is not None
        for line in pushing.stdout:
            if "assets/3.bin" in line:
                pushing.send_signal(signal.SIGKILL)
                break
    assert server.http.get(f"/registry/models/{name}").status_code == 404
    incoming = own.artefacts.parent / "incoming"
    wait_until(lambda: not list(incoming.iterdir()), what="what came in part to be gone")
    sent = through.run("push", folder)
    for number in range(3):
        assert f"assets/{number}.bin" not in sent
    assert "assets/4.bin" in sent
    assert "10 files" in through.run("verify", f"{name}@1")


def test_a_place_that_is_full_is_told_and_nothing_half_is_left(
    own: Commands, tmp_path: Path, name: str
) -> None:
    folder = write_answers(tmp_path / "model", "1", name=name)
    (folder / "assets" / "large.bin").write_bytes(b"\1" * 4_000_000)
    with Server(Path("fast_iris_model@1"), settings=own.settings) as server:
        limited = psutil.Process(server.process.pid)
        limited.rlimit(psutil.RLIMIT_FSIZE, (1_000_000, psutil.RLIM_INFINITY))
        through = Commands(tmp_path, url=server.url)
        told = through.refuse("push", folder)
        assert "File too large" in told or "cannot be asked" in told
        assert server.http.get(f"/registry/models/{name}").status_code == 404
        limited.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))
        incoming = own.artefacts.parent / "incoming"
        wait_until(lambda: not list(incoming.iterdir()), what="what came in part to be gone")
        assert "large.bin" in through.run("push", folder)


def test_a_version_is_served_under_its_alias_and_its_digest(
    own: Commands, tmp_path: Path, name: str
) -> None:
    for version in ("1", "2"):
        own.run("push", write_answers(tmp_path / version, version, name=name))
    own.run("alias", f"{name}@2", "prod")
    digest = {one["version"]: one["digest"] for one in listed(own, name)}
    references = [Path(f"{name}@prod"), Path(f"{name}@1@{digest['1']}")]
    with Server(*references, settings=own.settings) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the models")
        assert f"{name}@prod is {name}@2 {digest['2']}" in server.output
        for version in ("1", "2"):
            answer = server.predict(name, ["a"], model_version=version)
            assert answer.json()["prediction"] == [f"from {version}"]
        versions = server.http.get(f"/models/{name}").json()["versions"]
        assert {one["version"]: one["digest"] for one in versions} == digest
    pinned = f"{name}@1@{digest['2']}"
    assert "was to have" in complaint_of("serve", pinned, settings=own.settings)


def test_the_cache_of_fetched_models_is_bounded_and_mended(own: Commands, tmp_path: Path) -> None:
    settings = {
        **own.settings,
        "MODELYARD_MODEL_CACHE_FOLDER": str(tmp_path / "cache"),
        "MODELYARD_MODEL_CACHE_MB": "1",
    }
    for number in ("1", "2", "3"):
        folder = write_answers(tmp_path / number, number, name="large")
        (folder / "assets" / "large.bin").write_bytes(number.encode() * 600_000)
        own.run("push", folder)

    def there() -> set[str]:
        found = (tmp_path / "cache").glob("*/large/model.toml")
        return {path.read_text().splitlines()[1].split('"')[1] for path in found}

    with Server(Path("large@1"), settings=settings) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
        told = complaint_of("serve", "large@2", settings=settings)
        assert "models in use take" in told
        assert there() == {"1"}
    with Server(Path("large@2"), settings=settings) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
        assert there() == {"2"}
    (code,) = (tmp_path / "cache").glob("*/large/src/model.py")
    code.write_text("raise SystemExit('this was changed in the cache')")
    with Server(Path("large@2"), settings=settings) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
        assert server.predict("large", ["a"]).json()["prediction"] == ["from 2"]
    (digest,) = (one["digest"] for one in listed(own, "large") if one["version"] == "2")
    pinned = Path(f"large@2@{digest}")
    away = {**settings, "MODELYARD_STATE_FOLDER": str(tmp_path / "none")}
    with Server(pinned, settings=away) as server:  # it is here, and the registry is not asked
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
        assert server.predict("large", ["a"]).json()["prediction"] == ["from 2"]
    code.write_text("raise SystemExit('this was changed in the cache')")
    assert "store upgrade" in complaint_of("serve", pinned, settings=away)
    small = {**settings, "MODELYARD_MODEL_CACHE_MB": "1"}
    folder = write_answers(tmp_path / "4", "4", name="large")
    (folder / "assets" / "large.bin").write_bytes(b"4" * 1_100_000)
    own.run("push", folder)
    assert "raise model_cache_mb" in complaint_of("serve", "large@4", settings=small)


def test_a_slow_sender_is_not_waited_for_and_disturbs_nobody(own: Commands) -> None:
    settings = {**own.settings, "MODELYARD_BODY_TIMEOUT_S": "0.5"}
    with Server(Path("fast_iris_model@1"), settings=settings) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")

        def incoming() -> list[Path]:
            return list((own.artefacts.parent / "incoming").iterdir())

        with socket.create_connection(("127.0.0.1", httpx.URL(server.url).port or 0)) as client:
            client.sendall(
                f"PUT /registry/blobs/sha256/{'0' * 64} HTTP/1.1\r\nhost: x\r\n"
                "content-length: 2000\r\n\r\nbegun".encode()
            )
            wait_until(incoming, what="the server to receive it")
            answer = client.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"code":"too_slow"' in answer
        wait_until(lambda: not incoming(), what="what has begun to be removed")
        assert server.predict("fast_iris_model", [[5.1, 3.5, 1.4, 0.2]]).json()["prediction"] == [0]


def test_without_a_store_there_is_no_registry(tmp_path: Path) -> None:
    settings = {"MODELYARD_STATE_FOLDER": str(tmp_path)}
    with Server(IRIS, settings=settings) as server:
        assert server.http.get("/registry/models").status_code == 404
        told = Commands(tmp_path / "x", url=server.url).refuse("list")
        assert "has no registry" in told
    told = complaint_of("serve", "fast_iris_model@1", settings=settings)
    assert "store upgrade" in told


def test_a_gateway_that_is_killed_amid_changes_of_an_alias_leaves_each_whole(
    tmp_path: Path,
) -> None:
    own = Commands(tmp_path)
    for version in ("1", "2"):
        own.run("push", write_answers(tmp_path / version, version))
    server = Server(Path("answers@1"), settings=own.settings)
    with server:
        done = 0
        for number in itertools.count():
            if number == 100:
                threading.Timer(0.02, server.process.kill).start()
            body = {"version": "12"[number % 2], "why": str(number)}
            try:
                answer = server.http.put("/registry/models/answers/aliases/prod", json=body)
            except httpx.TransportError:
                break
            assert answer.is_success
            done = number + 1
    found = json.loads(own.run("show", "answers", "--json"))
    changes = [change for change in found["changes"] if change["action"] == "alias set"]
    assert len(changes) in {done, done + 1}  # the last may have been kept and not answered
    assert [change["why"] for change in changes] == [str(n) for n in range(len(changes))]
    (current,) = (one for one in found["versions"] if one["aliases"])
    assert changes[-1]["what"] == f"prod={current['version']}"


def test_what_no_version_needs_is_collected_a_day_later(tmp_path: Path) -> None:
    own = Commands(tmp_path)
    folder = write_answers(tmp_path / "model", "1")
    own.run("push", folder)
    kept = {path for path in own.artefacts.rglob("*") if path.is_file()}
    young, old = (own.file_of(digest_of(text)) for text in (b"young", b"old"))
    broken_off = own.artefacts.parent / "incoming" / "artefact-old"
    for path, text in ((young, b"young"), (old, b"old"), (broken_off, b"half")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    day_ago = time.time() - 25 * 3600
    for path in {*kept, old, broken_off}:
        os.utime(path, (day_ago, day_ago))
    assert "would remove 1 artefacts, 3 B" in own.run("gc", "--dry-run")
    assert old.exists()
    assert "removed 1 artefacts, 3 B" in own.run("gc")
    assert not old.exists()
    assert not broken_off.exists()
    assert {path for path in own.artefacts.rglob("*") if path.is_file()} == {*kept, young}
    own.run("verify", "answers@1")
    assert "name it with --url" in own.refuse("gc", "--keep", "1")


@pytest.mark.parametrize("delay_s", [0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
def test_a_migration_that_is_killed_leaves_all_of_it_or_nothing(
    tmp_path: Path, delay_s: float
) -> None:
    commands = Commands(tmp_path)
    before = _tables(tmp_path)
    assert before == set()
    with commands.start("push", IRIS) as process:
        try:
            process.wait(delay_s)
        except subprocess.TimeoutExpired:
            process.kill()
    tables = _tables(tmp_path)
    assert tables == set() or {"keys", "versions", "aliases", "alembic_version"} <= tables
    assert "fast_iris_model@1" in commands.run("push", IRIS)


def _tables(folder: Path) -> set[str]:
    path = folder / "state" / "modelyard.db"
    if not path.exists():
        return set()
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {name for (name,) in rows}
