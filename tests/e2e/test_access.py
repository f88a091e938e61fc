"""Who may ask: every route with every kind of key, over HTTP and gRPC."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import sqlalchemy as sa

from modelyard.client import Client, Unauthenticated
from modelyard.gateway.sessions import COOKIE, new_session, token_of
from modelyard.grpc.messages import POOL, SERVICE, message_class
from modelyard.store.schema import open_engine, upgrade
from tests.support import preloaded
from tests.support.broker import Broker
from tests.support.cluster import copy_trick
from tests.support.identities import write_identities, write_others
from tests.support.keys import Keys
from tests.support.preloaded import Ended
from tests.support.server import MODELYARD, PATIENCE_S, Member, Server, complaint_of, wait_until

OWN, OTHERS, NOBODYS = "people", "fp32", "nothing"
SCOPES = {
    "own": ("predict:people",),
    "reader": ("read",),
    "releaser": ("release:people",),
    "admin": ("admin",),
    "stranger": ("predict:people", "read"),
}
OPEN = {"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"}
WITH_READ = {"/metrics"}
PREDICTING = re.compile(
    r".*(/predict|/infer|/generate|/generate_stream|:predict|/completions|/embeddings)"
)
BY_BODY = {"/predict", "/v1/chat/completions", "/v1/completions", "/v1/embeddings"}
RELEASING = re.compile(r".*/(load|unload)|(PUT|DELETE) /registry/models/.*")
WITH_A_RELEASE = re.compile(r".* /registry/blobs/.*")  # of whatever model
WITH_ADMIN = "/registry/collect"
REFUSED = {401, 403}
HTTP = httpx.Client(timeout=PATIENCE_S)  # without the headers that ``server.http`` has


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module")
def texts(keys: Keys) -> dict[str, str]:
    """Each kind of key."""
    return {name: keys.create(name, *scopes, owner=name) for name, scopes in SCOPES.items()}


@pytest.fixture(scope="module")
def server(
    keys: Keys, texts: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = write_others(write_identities(tmp_path_factory.mktemp("models")))
    for name in (OWN, OTHERS):
        keys.run("registry", "push", str(folder / f"{name}-1"))
    more = {"MODELYARD_GRPC_PORT": "0", "MODELYARD_MCP": "true"}
    with Server(folder, settings={**keys.settings, **more}) as server:
        server.http.headers["x-api-key"] = texts["admin"]
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the models")
        yield server


def ask(server: Server, method: str, path: str, key: str | None) -> httpx.Response:
    """Ask with this key alone."""
    name = (
        path.split("/models/")[1].split("/", maxsplit=1)[0].split(":", maxsplit=1)[0]
        if "/models/" in path
        else OWN
    )
    tensor = {"name": "name", "datatype": "BYTES", "shape": [1], "data": ["Ada"]}
    ada = [{"name": "Ada"}]
    body: dict[str, Any] = {"inputs": [tensor], "instances": ada, "input_data": ada}
    body |= {"model_name": name, "model": name, "messages": [], "input": "Ada"}
    wanted = {"/predict": ("model_name", "input_data"), "/infer": ("inputs",)}
    wanted |= {"/completions": ("model", "messages"), "/embeddings": ("model", "input")}
    if "/generate" in path:
        body = {"name": "Ada"}
    if path.startswith("/jobs/"):
        body = {"model_name": name, "input_data": ada}
    for end, fields in {**wanted, ":predict": ("instances",)}.items():
        if path.endswith(end):
            body = {field: body[field] for field in fields}
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return HTTP.request(
        method,
        server.url + path,
        json=body if method == "POST" or (method == "PUT" and path.startswith("/jobs/")) else None,
        headers=headers,
    )


def wait_until_known(server: Server, key: str) -> None:
    """Wait until the server has read a new key."""
    headers = {"x-api-key": key}
    wait_until(lambda: HTTP.get(server.url + "/v2", headers=headers).is_success, what="the key")


def routes(server: Server) -> list[tuple[str, str]]:
    """Return method and path of every operation, ``{name}`` in them as it is documented."""
    paths = server.http.get("/openapi.json").json()["paths"]
    found = [(method.upper(), path) for path, methods in paths.items() for method in methods]
    return [*found, ("GET", "/docs"), ("GET", "/openapi.json"), ("POST", "/mcp")]


def of(path: str, name: str) -> str:
    values = {"name": name, "version": "1", "alias": "prod", "digest": "0" * 64}
    values |= {"id": "none", "delivery": "none"}
    return path.format(**values, path="model.toml")


def told(answer: httpx.Response, name: str) -> tuple[int, str]:
    """Return what an answer says, but for what differs in each."""
    text = re.sub(r'"request_id":"[^"]*"', "", answer.text).replace(name, "NAME")
    return answer.status_code, text


def test_without_a_valid_key_nothing_but_probes_is_open(server: Server) -> None:
    found = routes(server)
    assert len(found) > 25
    for method, path in found:
        for key in (None, "mdy_nothing", "x" * 40):
            answer = ask(server, method, of(path, OWN), key)
            if path in OPEN:
                assert answer.status_code == 200
            else:
                assert answer.status_code == 401, (method, path)
                assert answer.headers["www-authenticate"] == "Bearer"
    assert HTTP.get(server.url + "/readyz").json()["models"] == {}


def test_a_key_of_one_model_opens_that_model_and_sees_no_other(
    server: Server, texts: dict[str, str]
) -> None:
    for method, path in routes(server):
        if "{id}" in path:
            continue
        if "{name}" in path or path in BY_BODY:
            own = ask(server, method, of(path, OWN), texts["own"])
            if RELEASING.fullmatch(f"{method} {path}"):
                assert own.status_code == 403, path
            elif path.endswith("/demand"):
                continue
            else:
                assert own.status_code not in REFUSED | {404}, (method, path, own.text)
        if "{name}" in path:
            theirs = told(ask(server, method, of(path, OTHERS), texts["own"]), OTHERS)
            nobodys = told(ask(server, method, of(path, NOBODYS), texts["own"]), NOBODYS)
            assert theirs == nobodys, (method, path)
            assert theirs[0] == 404, (method, path)
        elif path in WITH_READ | {"/docs", "/openapi.json", WITH_ADMIN} or "blobs" in path:
            assert ask(server, method, of(path, OWN), texts["own"]).status_code == 403, path
    assert ask(server, "PUT", "/jobs/listed", texts["own"]).status_code == 202
    for path in (
        "/models",
        "/jobs",
        "/registry/models",
        "/v1/models",
        "/v2/models",
        "/v2/models/stats",
        "/readyz",
    ):
        text = ask(server, "GET", path, texts["own"]).text
        assert OWN in text, path
        assert OTHERS not in text, path
    index = ask(server, "POST", "/v2/repository/index", texts["own"]).json()
    assert [entry["name"] for entry in index] == [OWN]


def test_who_reads_may_not_ask_nor_release(server: Server, texts: dict[str, str]) -> None:
    for method, path in routes(server):
        if "{id}" in path:
            continue
        status = ask(server, method, of(path, OWN), texts["reader"]).status_code
        line = f"{method} {path}"
        is_released = RELEASING.fullmatch(line) or WITH_A_RELEASE.fullmatch(line)
        if PREDICTING.fullmatch(path) or is_released or path == WITH_ADMIN:
            assert status == 403, path
        elif not path.endswith("/demand"):
            assert status not in REFUSED | {404}, (method, path)


def test_who_releases_may_do_just_that(server: Server, texts: dict[str, str]) -> None:
    for method, path in routes(server):
        line = f"{method} {path}"
        theirs = ask(server, method, of(path, OTHERS), texts["releaser"])
        if RELEASING.fullmatch(line):
            assert theirs.status_code == 404, path
        elif WITH_A_RELEASE.fullmatch(line):
            assert theirs.status_code not in REFUSED, path
    for action in ("unload", "load"):
        done = ask(server, "POST", f"/models/{OWN}/{action}", texts["releaser"])
        assert done.is_success, done.text
    assert ask(server, "POST", f"/models/{OWN}/predict", texts["releaser"]).status_code == 403


def test_an_admin_may_do_everything(server: Server, texts: dict[str, str]) -> None:
    for method, path in routes(server):
        line = f"{method} {path}"
        if RELEASING.fullmatch(line) or WITH_A_RELEASE.fullmatch(line) or "{id}" in path:
            continue
        if not path.endswith("/demand"):
            status = ask(server, method, of(path, OWN), texts["admin"]).status_code
            assert status not in REFUSED | {404}, (method, path)
    assert ask(server, "GET", "/nothing", texts["admin"]).status_code == 404
    assert ask(server, "GET", "/nothing", texts["reader"]).status_code == 404


def test_a_job_is_seen_by_its_owner_as_far_as_the_key_may_ask_and_by_an_admin(
    server: Server, texts: dict[str, str], keys: Keys
) -> None:
    """A key of the same owner that may not ask the model sees its jobs no more than a stranger."""
    narrow = keys.create("narrow", f"predict:{OTHERS}", "read", owner="own")
    wait_until_known(server, narrow)
    found = [(method, path) for method, path in routes(server) if "{id}" in path]
    assert len(found) >= 7
    for number, (method, path) in enumerate(found):
        for holder in ("own", "admin"):
            job = f"job-{number}-{holder}"
            made = ask(server, "PUT", f"/jobs/{job}", texts["own"])
            assert made.status_code == 202, made.text
            for key in (texts["reader"], texts["releaser"], texts["stranger"], narrow):
                if method == "PUT":
                    continue
                theirs = ask(server, method, path.format(id=job, delivery="x"), key)
                nobodys = ask(server, method, path.format(id="none", delivery="x"), key)
                assert told(theirs, "") == told(nobodys, ""), (method, path)
                assert theirs.status_code == 404, (method, path)
                listed = ask(server, "GET", "/jobs", key).json()["jobs"]
                assert job not in [one["id"] for one in listed]
            done = ask(server, method, path.format(id=job, delivery="x"), texts[holder])
            if path.startswith(("/batches/", "/v1/files/", "/v1/batches/")):
                assert done.status_code == 404  # this one is no bulk run: see test_bulk.py
            elif "{delivery}" in path:
                assert "delivery" in done.json()["detail"]
            else:
                assert done.status_code not in REFUSED | {404}, (method, path, done.text)
    assert ask(server, "PUT", "/jobs/mine", texts["reader"]).status_code == 403
    for key in (texts["own"], texts["stranger"]):  # each has one of this name
        assert ask(server, "PUT", "/jobs/mine", key).status_code == 202
    owners = {job["owner"] for job in ask(server, "GET", "/jobs", texts["admin"]).json()["jobs"]}
    assert {"own", "stranger"} <= owners


SEEN = {"own": (200, 404), "reader": (200, 200), "releaser": (200, 404), "admin": (200, 200)}
ANY = dict.fromkeys(("own", "reader", "releaser", "admin"), (200, 200))
CONSOLE: dict[tuple[str, str], dict[str, tuple[int, int]]] = {
    ("GET", ""): ANY,
    ("GET", "/history"): ANY,
    ("GET", "/releases"): ANY,
    ("GET", "/usage"): ANY,
    ("GET", "/jobs"): ANY,
    ("GET", "/faults"): ANY,
    ("GET", "/models/{name}"): SEEN,
    ("GET", "/models/{name}/history"): SEEN,
    ("GET", "/releases/{name}"): SEEN,
    ("POST", "/models/{name}/try"): {  # with an empty form, which is no instance of the other
        **{"own": (200, 404), "reader": (403, 403), "releaser": (403, 404), "admin": (200, 422)},
    },
    ("GET", "/releases/{name}/change"): {**SEEN, "own": (403, 404), "reader": (403, 403)},
    ("POST", "/releases/{name}/change"): {
        **{"own": (403, 404), "reader": (403, 403), "releaser": (303, 404), "admin": (303, 303)},
    },
}
"""Each page of the console: what each kind of key is told of its own model, and of another."""


def test_the_console_is_for_who_signs_in(server: Server) -> None:
    for key in ({}, {"x-api-key": "mdy_nothing"}, {"cookie": f"{COOKIE}={new_session('mdy_no')}"}):
        for method, path in CONSOLE:
            url = server.url + "/console" + path.format(name=OWN)
            answer = httpx.request(method, url, headers=key)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), path
            assert "Sign in" in answer.text
            assert "sha256" not in answer.text
    assert httpx.get(f"{server.url}/console/sign-in").status_code == 200
    for path in ("sign-in", "sign-out"):  # without the token of their form
        assert httpx.post(f"{server.url}/console/{path}").status_code == 403


@pytest.mark.parametrize("kind", SCOPES)
def test_a_page_of_the_console_is_for_who_may_see_it(
    server: Server, texts: dict[str, str], kind: str
) -> None:
    with httpx.Client(base_url=server.url, timeout=PATIENCE_S) as client:
        page = client.get("/console/sign-in").text
        form = {"token": re.findall(r'name="token" value="(\w+)"', page)[0], "key": texts[kind]}
        assert client.post("/console/sign-in", data=form).status_code == 303
        for (method, path), wanted in CONSOLE.items():
            as_both = wanted["own"][0], wanted["reader"][1]  # who is stranger may both
            for name, status in zip((OWN, OTHERS), wanted.get(kind, as_both), strict=True):
                send = {"token": token_of(client.cookies[COOKIE]), "number": "0", "route": ""}
                if "change" in path and method == "POST":
                    known = client.get(f"/console/releases/{name}/change?to=clear").text
                    send["number"] = (re.findall(r'name="number" value="(\d+)"', known) or ["0"])[0]
                options = {"params": {"to": "clear"}} if method == "GET" else {"data": send}
                answer = client.request(method, "/console" + path.format(name=name), **options)  # type: ignore[arg-type]
                assert answer.status_code == status, (kind, method, path, name)
                if kind in ("own", "releaser") and "{name}" not in path:
                    assert OTHERS not in answer.text, path


CALLS = [method.name for method in POOL.FindServiceByName(SERVICE).methods]


def call(channel: grpc.Channel, name: str, model: str, key: str | None) -> str:
    """Call, and return the status."""
    metadata = () if key is None else (("authorization", f"Bearer {key}"),)
    path = f"/{SERVICE}/{name}"
    if name.startswith("ModelInfer") or name == "ModelStreamInfer":
        request = message_class("ModelInferRequest")(model_name=model)
        request.inputs.add(name="name", datatype="BYTES", shape=[1])
        request.raw_input_contents.append(b"\3\0\0\0Ada")
    else:
        request = message_class(f"{name}Request")()
        for field in ("name", "model_name"):
            if field in request.DESCRIPTOR.fields_by_name:
                setattr(request, field, model)
    try:
        if name == "ModelStreamInfer":
            stream: Any = channel.stream_stream(path)
            (answer,) = stream(iter([request.SerializeToString()]), metadata=metadata)
            read = message_class("ModelStreamInferResponse").FromString(answer)
            return str(read.error_message) or "OK"
        unary: Any = channel.unary_unary(path)
        unary(request.SerializeToString(), metadata=metadata, timeout=PATIENCE_S)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


@pytest.mark.parametrize("name", CALLS)
def test_every_call_of_grpc_asks_for_a_key(
    server: Server, texts: dict[str, str], name: str
) -> None:
    with grpc.insecure_channel(server.grpc_address) as channel:
        is_open = name in ("ServerLive", "ServerReady")
        for key in (None, "mdy_nothing"):
            found = call(channel, name, OWN, key)
            if is_open:
                assert found == "OK"
            else:
                assert found == "UNAUTHENTICATED"
        is_release = name.startswith("RepositoryModel")
        own = call(channel, name, OWN, texts["own"])
        assert own == ("PERMISSION_DENIED" if is_release else "OK")
        theirs, nobodys = (call(channel, name, m, texts["own"]) for m in (OTHERS, NOBODYS))
        assert theirs == nobodys
        if name.startswith("Model") and name not in ("ModelReady", "ModelStreamInfer"):
            assert theirs == "NOT_FOUND"
        if name.startswith("ModelInfer"):
            assert call(channel, name, OWN, texts["reader"]) == "PERMISSION_DENIED"


def test_a_model_that_may_not_be_seen_is_not_ready_over_grpc(
    server: Server, texts: dict[str, str]
) -> None:
    with grpc.insecure_channel(server.grpc_address) as channel:
        for name, is_ready in ((OWN, True), (OTHERS, False), (NOBODYS, False)):
            request = message_class("ModelReadyRequest")(name=name)
            method: Any = channel.unary_unary(f"/{SERVICE}/ModelReady")
            metadata = (("x-api-key", texts["own"]),)
            answer = method(request.SerializeToString(), metadata=metadata)
            assert message_class("ModelReadyResponse").FromString(answer).ready == is_ready


def test_a_revoked_key_stops_working_on_connections_that_are_kept(
    server: Server, keys: Keys
) -> None:
    key = keys.create("leaving", "predict:*")
    wait_until_known(server, key)
    body = {"model_name": OWN, "input_data": [{"name": "Ada"}]}

    def ask_until_refused(number: int) -> list[int]:
        with httpx.Client(base_url=server.url, headers={"x-api-key": key}) as client:
            seen = [client.post("/predict", json=body).status_code for _ in range(20)]
            revoked.result()
            wait_until(
                lambda: client.post("/predict", json=body).status_code == 401, what="a refusal"
            )
            return [*seen, client.post("/predict", json=body).status_code]

    with ThreadPoolExecutor(5) as pool:
        asking = [pool.submit(ask_until_refused, number) for number in range(4)]
        revoked = pool.submit(keys.run, "keys", "revoke", "leaving")
        for one in asking:
            seen = one.result()
            assert set(seen[:-1]) <= {200, 401}
            assert seen[-1] == 401


def test_no_tenant_is_answered_from_the_cache_of_another(server: Server, keys: Keys) -> None:
    mine, ours = (keys.create(f"red-{n}", "predict:*", owner="red") for n in (1, 2))
    theirs = keys.create("blue", "predict:*", owner="blue")
    wait_until_known(server, theirs)
    tensor = {"name": "a", "datatype": "FP32", "shape": [1, 2], "data": [7, 8]}
    body = {"inputs": [tensor, {**tensor, "name": "b", "datatype": "INT64"}]}
    uses = []
    for key in (mine, ours, theirs, theirs):
        answer = httpx.post(
            f"{server.url}/v2/models/sums/infer", json=body, headers={"x-api-key": key}
        )
        assert answer.status_code == 200
        uses.append(answer.headers["x-cache"])
    assert uses == ["miss", "hit", "miss", "hit"]


def test_keys_may_stand_in_a_file_that_is_read_again(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    printed = keys.run("keys", "create", "--toml", "--owner", "x", "--scope", "read")
    entry, key = re.split(r"^# .*: (?=mdy_)", printed.strip(), flags=re.MULTILINE)
    file = tmp_path / "keys.toml"
    file.write_text(entry)
    settings = {"MODELYARD_AUTH": "keys", "MODELYARD_KEYS_FILE": str(file)}
    with Server(write_others(tmp_path / "models"), settings=settings) as server:
        headers = {"authorization": f"Bearer {key}"}

        def status() -> int:
            return server.http.get("/models", headers=headers).status_code

        assert status() == 200
        file.write_text("[[keys]]\nid = 1")
        wait_until(lambda: "keys_not_read" in server.output, what="a word about it")
        assert status() == 200  # the last that could be read stays
        file.write_text("")
        wait_until(lambda: status() == 401, what="the key to be gone")
        file.write_text(entry)
        wait_until(lambda: status() == 200, what="the key to be back")
    assert key not in server.output


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--host", "0.0.0.0"), "can be reached from other machines"),
        (("--auth", "keys"), "there is no store yet"),
        (("--auth", "keys", "--keys-file", "nothing.toml"), "the keys cannot be read"),
    ],
)
def test_what_is_not_safe_or_cannot_be_read_does_not_start(
    tmp_path: Path, arguments: tuple[str, ...], problem: str
) -> None:
    folder, settings = write_others(tmp_path / "models"), {"MODELYARD_STATE_FOLDER": str(tmp_path)}
    assert problem in complaint_of("serve", folder, *arguments, settings=settings)
    assert not (tmp_path / "modelyard.db").exists()


@pytest.mark.parametrize("name", ["X-Forwarded-For", "x-request-id"])
def test_routes_stick_to_no_header_that_tells_requests_apart(tmp_path: Path, name: str) -> None:
    settings = {"MODELYARD_STATE_FOLDER": str(tmp_path), "MODELYARD_STICKY_HEADER": name}
    folder = write_others(tmp_path / "models")
    assert f"sticky_header: {name} tells requests apart" in complaint_of(
        "serve", folder, settings=settings
    )


def test_limits_of_an_earlier_release_are_listed(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'modelyard.db'}")
    upgrade(engine, to="0002")
    with engine.begin() as connection:
        row = "('a', 'team', '[]', '[]', 1, 2.5, 3)"
        names = "id, owner, scopes, networks, created, rate, in_flight"
        connection.execute(sa.text(f"INSERT INTO keys ({names}) VALUES {row}"))
    engine.dispose()
    keys = Keys(tmp_path)
    keys.run("store", "upgrade")
    assert "2.5/s, 3 in flight" in keys.run("keys", "list")


def test_a_key_cannot_expire_when_there_are_no_days_any_more(tmp_path: Path) -> None:
    create = ("keys", "create", "--owner", "x", "--scope", "read", "--expires", "9999999d")
    environment = {**os.environ, **Keys(tmp_path).settings}
    done = subprocess.run([MODELYARD, *create], env=environment, capture_output=True, check=False)
    assert done.returncode == 2
    assert b"'9999999d' is not a valid time" in done.stderr


def test_a_key_that_is_over_is_not_made(tmp_path: Path) -> None:
    create = ("keys", "create", "--owner", "x", "--scope", "read", "--expires", "2020-01-01")
    done = preloaded.run(*create, env={**os.environ, **Keys(tmp_path).settings})
    assert (done.returncode, done.stdout) == (2, "")
    assert "that is over" in done.stderr


def test_the_store_is_for_its_owner_alone(tmp_path: Path) -> None:
    Keys(tmp_path / "state").create("mine", "read")
    (store,) = (tmp_path / "state").glob("*.db")
    assert store.stat().st_mode & 0o077 == 0


def test_the_document_tells_how_a_key_is_sent(server: Server) -> None:
    document = server.http.get("/openapi.json").json()
    assert {"key": []} in document["security"]
    assert document["components"]["securitySchemes"]["key"]["name"] == "X-API-Key"
    paths, schemas = document["paths"], document["components"]["schemas"]
    assert paths["/healthz"]["get"]["security"] == []
    assert {"401", "403", "422"} <= set(paths["/jobs"]["get"]["responses"])
    assert "OpenAIError" in json.dumps(paths["/v1/files"]["get"]["responses"]["default"])
    served = schemas["ModelDetails"]["properties"]["versions"]["items"]["$ref"]
    pushed = paths["/registry/models/{name}/versions/{version}"]["get"]["responses"]["200"]
    assert served != pushed["content"]["application/json"]["schema"]["$ref"]
    assert "model" in schemas["ChatRequest"]["required"]


def test_keys_are_listed_without_their_texts(keys: Keys, texts: dict[str, str]) -> None:
    printed, listed = keys.run("keys", "list"), json.loads(keys.run("keys", "list", "--json"))
    assert {"own", "reader", "admin"} <= {key["id"] for key in listed}
    for text in texts.values():
        assert text not in printed
        assert text[:10] in printed


def test_pages_may_be_opened_by_a_setting(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    keys.create("k", "admin")
    settings = {**keys.settings, "MODELYARD_OPEN_PAGES": "metrics, models"}
    with Server(write_others(tmp_path / "models"), settings=settings) as server:
        get = server.http.get
        assert get("/metrics").status_code == 200
        assert len(get("/models").json()["models"]) == 2
        assert get("/docs").status_code == 401
        assert get("/models/sums").status_code == 401


def test_the_command_line_and_the_client_send_a_key(
    server: Server, keys: Keys, texts: dict[str, str]
) -> None:
    def run(key: str, *arguments: str) -> Ended:
        environment = {**os.environ, "MODELYARD_API_KEY": key}
        return preloaded.run(*arguments, "--url", server.url, env=environment)

    done = run(texts["own"], "predict", OWN, '[{"name": "Ada"}]')
    assert json.loads(done.stdout)[0]["text"] == "Hello Ada"
    assert OTHERS not in run(texts["own"], "models").stdout
    refused = run("", "models")
    assert refused.returncode == 2
    assert "commands take the key from MODELYARD_API_KEY" in refused.stderr
    with Client(server.url, api_key=texts["own"]) as client:
        assert client.predict(OWN, [{"name": "Ada"}])[0]["letters"] == 3
    with Client(server.url) as client, pytest.raises(Unauthenticated, match="wants a key"):
        client.predict(OWN, [{"name": "Ada"}])


def test_a_workers_port_tells_its_health_and_metrics_alone(broker: Broker, tmp_path: Path) -> None:
    folder = write_others(tmp_path) / "sums-1"
    settings = {"MODELYARD_AMQP_URL": broker.url, "MODELYARD_HOST": "127.0.0.1"}
    with Member("worker", folder, settings=settings) as worker:
        for path in ("/healthz", "/metrics"):
            assert worker.http.get(path).status_code == 200
        for path in ("/models", "/models/sums", "/docs", "/openapi.json", "/v2", "/v1/models"):
            assert worker.http.get(path).status_code == 404


def test_a_key_may_have_limits(server: Server, keys: Keys) -> None:
    printed = keys.run(
        *("keys", "create", "--owner", "busy", "--scope", "predict:people"),
        *("--rate", "0.01", "--burst", "3"),
    )
    found = re.search(r"mdy_\w{36}", printed)
    assert found
    wait_until_known(server, found[0])
    answers = [ask(server, "POST", "/predict", found[0]) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200] * 3 + [429] * 2
    assert answers[-1].json()["code"] == "rate_limited"
    assert 0 < int(answers[-1].headers["retry-after"]) <= 100
    assert answers[-1].headers["ratelimit-policy"] == '"rate";q=3;w=300'
    with grpc.insecure_channel(server.grpc_address) as channel:
        assert call(channel, "ModelInfer", OWN, found[0]) == "RESOURCE_EXHAUSTED"
    assert "0.01/s, 3 at once" in keys.run("keys", "list")


def test_requests_in_flight_may_be_limited(server: Server, keys: Keys) -> None:
    printed = keys.run(
        *("keys", "create", "--owner", "busy", "--scope", "predict:people", "--in-flight", "1")
    )
    found = re.search(r"mdy_\w{36}", printed)
    assert found
    wait_until_known(server, found[0])
    headers = {"x-api-key": found[0], "cache-control": "no-cache"}

    def late(milliseconds: int) -> int:
        body = {"model_name": OWN, "input_data": [{"name": "late", "age": milliseconds}]}
        return HTTP.post(f"{server.url}/predict", json=body, headers=headers).status_code

    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(late, [700, 701, 702, 703]))
    assert sorted(statuses)[0] == 200
    assert 429 in statuses
    assert late(1) == 200


def test_instances_and_weights_may_be_limited(tmp_path: Path) -> None:
    folder = copy_trick(tmp_path)
    manifest = folder / "model.toml"
    limits = "[limits]\nweight = 2.5\n"
    manifest.write_text(manifest.read_text().replace("[limits]\n", limits))
    keys = Keys(tmp_path / "state")
    mine = {
        count: keys.create(count, "predict:*", more=("--count", count, "--per-day", "10"))
        for count in ("instances", "weight")
    }
    with Server(folder, settings=keys.settings) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")

        def asked(count: str, number: int, **headers: str) -> int:
            instances = [{"nonce": nonce} for nonce in range(number)]
            headers["x-api-key"] = mine[count]
            return server.predict("trick_model", instances, headers=headers).status_code

        assert [asked("instances", number) for number in (4, 4, 3, 2, 1)] == [
            *(200, 200),
            429,  # 8 are used, and 3 more are too many
            200,
            429,
        ]
        prefer = {"prefer": "respond-async"}
        assert [asked("weight", 9, **prefer) for _ in range(2)] == [202, 202]
        assert [asked("weight", 9) for _ in range(3)] == [200, 200, 429]
        assert asked("weight", 1, **prefer) == 429
