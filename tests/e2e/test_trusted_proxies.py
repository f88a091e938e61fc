"""A proxy that authenticates callers before us: it is believed, and nobody else is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.support.identities import write_others
from tests.support.keys import Keys
from tests.support.server import PATIENCE_S, Server, complaint_of, wait_until

PROXY, STRANGER = "127.0.0.2", "127.0.0.1"
OFFICE, ELSEWHERE = "192.0.2.7", "198.51.100.9"  # clients; a key is for the first one's network
ADA = {"X-Auth-Request-User": "ada", "X-Auth-Request-Groups": "staff, ml-team"}
SETTINGS = {
    "MODELYARD_AUTH": "keys",
    "MODELYARD_TRUSTED_PROXIES": f"{PROXY}, 10.0.0.0/8",
    "MODELYARD_PROXY_OWNER_HEADER": "X-Auth-Request-User",
    "MODELYARD_PROXY_SCOPES_HEADER": "X-Auth-Request-Groups",
    "MODELYARD_PROXY_RULES": "ml-team=predict:people,ml-team=read",
    "MODELYARD_GRPC_PORT": "0",
}
BODY = {"model_name": "people", "input_data": [{"name": "Ada"}]}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_others(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A key of the office's network, and the file that holds it."""
    folder = tmp_path_factory.mktemp("keys")
    more = ("--owner", "x", "--scope", "predict:*", "--network", "192.0.2.0/24")
    printed = Keys(folder).run("keys", "create", "--toml", *more)
    entry, key = re.split(r"^# .*: (?=mdy_)", printed.strip(), flags=re.MULTILINE)
    (folder / "keys.toml").write_text(entry)
    return key, folder / "keys.toml"


@pytest.fixture(scope="module")
def server(models: Path, key_file: tuple[str, Path]) -> Iterator[Server]:
    settings = {**SETTINGS, "MODELYARD_KEYS_FILE": str(key_file[1])}
    with Server(models, settings=settings) as server:
        wait_until_ready(server)
        yield server


def wait_until_ready(server: Server) -> None:
    wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the models")


@pytest.fixture(scope="module")
def proxy(server: Server) -> Iterator[httpx.Client]:
    with client_at(PROXY, server) as client:
        yield client


@pytest.fixture(scope="module")
def stranger(server: Server) -> Iterator[httpx.Client]:
    with client_at(STRANGER, server) as client:
        yield client


def client_at(address: str, server: Server) -> httpx.Client:
    """Return a client whose connections, which it keeps, come from this address."""
    transport = httpx.HTTPTransport(local_address=address)
    return httpx.Client(base_url=server.url, transport=transport, timeout=PATIENCE_S)


def ask(client: httpx.Client, headers: dict[str, str] | list[tuple[str, str]]) -> int:
    return client.post("/predict", json=BODY, headers=headers).status_code


def test_whom_the_proxy_names_needs_no_key(proxy: httpx.Client) -> None:
    for _ in range(3):
        assert ask(proxy, ADA) == 200
        assert ask(proxy, {}) == 401
        assert proxy.get("/models", headers=ADA).json()
        assert proxy.get("/models").status_code == 401
        tensor = {"name": "name", "datatype": "BYTES", "shape": [1], "data": ["Ada"]}
        v2, infer = {"inputs": [tensor]}, "/v2/models/people/infer"
        assert proxy.post(infer, json=v2, headers=ADA).status_code == 200
        assert proxy.post("/v2/models/sums/infer", json=v2, headers=ADA).status_code == 403
        assert proxy.post(infer, json=v2).status_code == 401


@pytest.mark.parametrize(
    ("groups", "status"),
    [
        ("", 404),
        ("staff", 404),
        ("read", 404),  # a scope, but of somebody else's
        ("modelyard:read", 403),
        ("modelyard:predict:peo*", 200),
        ("staff ml-team", 200),
    ],
)
def test_scopes_come_from_what_the_proxy_lists(
    proxy: httpx.Client, groups: str, status: int
) -> None:
    assert ask(proxy, {**ADA, "X-Auth-Request-Groups": groups}) == status


def test_from_elsewhere_the_same_headers_mean_nothing(
    proxy: httpx.Client, stranger: httpx.Client, server: Server
) -> None:
    for _ in range(5):  # also once their lines are known from the proxy's connections
        assert ask(proxy, ADA) == 200
        assert ask(stranger, ADA) == 401
        assert stranger.get("/models", headers=ADA).status_code == 401
    for number in range(3, 6):
        with client_at(f"127.0.0.{number}", server) as other:
            assert ask(other, {**ADA, "x-forwarded-for": PROXY}) == 401


def test_a_header_that_is_there_twice_names_nobody(proxy: httpx.Client) -> None:
    name, groups = ADA.items()
    assert ask(proxy, [name, groups]) == 200
    assert ask(proxy, [name, ("x-auth-request-user", "root"), groups]) == 401
    assert ask(proxy, [name, name, groups]) == 401
    assert ask(proxy, [name, groups, ("x-auth-request-groups", "modelyard:admin")]) == 404


@pytest.mark.parametrize(
    ("forwarded", "status"),
    [
        ([], 401),  # the proxy's own address
        ([OFFICE], 200),
        ([f"{OFFICE}:1234"], 200),
        ([ELSEWHERE], 401),
        ([f"{OFFICE}, {ELSEWHERE}"], 401),  # who is elsewhere has sent the first
        ([OFFICE, ELSEWHERE], 401),
        ([f"{ELSEWHERE}, {OFFICE}"], 200),
        ([f"{OFFICE}, 10.1.2.3"], 200),  # a proxy before the proxy
        ([OFFICE, "10.1.2.3,10.1.2.4"], 200),
        ([f"{OFFICE}, unknown"], 401),
        ([f"{OFFICE},"], 401),
    ],
)
def test_the_network_of_a_key_is_that_of_the_proxys_client(
    proxy: httpx.Client,
    stranger: httpx.Client,
    key_file: tuple[str, Path],
    forwarded: list[str],
    status: int,
) -> None:
    headers = [("x-api-key", key_file[0]), *(("x-forwarded-for", line) for line in forwarded)]
    for _ in range(3):
        assert ask(proxy, headers) == status
        assert ask(stranger, headers) == 401
        assert proxy.get("/v2", headers=headers).status_code == status
        assert stranger.get("/v2", headers=headers).status_code == 401


def test_whom_the_proxy_names_is_a_tenant(proxy: httpx.Client) -> None:
    tensor = {"name": "a", "datatype": "FP32", "shape": [1, 2], "data": [7, 8]}
    body = {"inputs": [tensor, {**tensor, "name": "b", "datatype": "INT64"}]}
    uses = []
    for user in ("ada", "ada", "bob", "bob"):
        headers = {"X-Auth-Request-User": user, "X-Auth-Request-Groups": "modelyard:predict:sums"}
        answer = proxy.post("/v2/models/sums/infer", json=body, headers=headers)
        uses.append(answer.headers["x-cache"])
    assert uses == ["miss", "hit", "miss", "hit"]


def ask_over_grpc(server: Server, metadata: tuple[tuple[str, str], ...]) -> str:
    """Call, and return the status of an inference and that of a page."""
    request = service_pb2.ModelInferRequest(model_name="people")
    request.inputs.add(name="name", datatype="BYTES", shape=[1])
    request.raw_input_contents.append(b"\3\0\0\0Ada")
    found = []
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        page = service_pb2.ModelMetadataRequest(name="people")
        for call, message in ((stub.ModelInfer, request), (stub.ModelMetadata, page)):
            try:
                call(message, metadata=metadata, timeout=PATIENCE_S)
                found.append("OK")
            except grpc.RpcError as error:
                found.append(error.code().name)
    first, second = found
    assert first == second
    return str(first)


def test_grpc_believes_the_proxy_alone(
    server: Server, models: Path, key_file: tuple[str, Path]
) -> None:
    named = tuple((name.lower(), value) for name, value in ADA.items())
    assert ask_over_grpc(server, named) == "UNAUTHENTICATED"  # it comes from a stranger's address
    settings = {
        **SETTINGS,
        "MODELYARD_TRUSTED_PROXIES": STRANGER,
        "MODELYARD_KEYS_FILE": str(key_file[1]),
    }
    with Server(models, settings=settings) as near:
        wait_until_ready(near)
        assert ask_over_grpc(near, named) == "OK"
        assert ask_over_grpc(near, ()) == "UNAUTHENTICATED"
        key = ("x-api-key", key_file[0])
        assert ask_over_grpc(near, (key, ("x-forwarded-for", OFFICE))) == "OK"
        assert ask_over_grpc(near, (key, ("x-forwarded-for", ELSEWHERE))) == "UNAUTHENTICATED"


def test_everybody_whom_the_proxy_names_may_have_scopes_and_nobody_a_key(models: Path) -> None:
    settings = {
        **SETTINGS,
        "MODELYARD_TRUSTED_PROXIES": STRANGER,
        "MODELYARD_PROXY_SCOPES_HEADER": "",
        "MODELYARD_PROXY_RULES": "*=predict:people",
    }
    with Server(models, settings=settings) as server:
        wait_until_ready(server)
        assert ask(server.http, {"x-auth-request-user": "eve"}) == 200
        assert ask(server.http, {}) == 401


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"AUTH": "none"}, "trusted_proxies needs auth = keys"),
        ({"TRUSTED_PROXIES": ""}, "need trusted_proxies"),
        ({"TRUSTED_PROXIES": "the proxy"}, "does not appear to be"),
        ({"PROXY_RULES": "ml-team=everything"}, "'everything' is not a valid scope"),
        ({"PROXY_OWNER_HEADER": "x-correlation-id"}, "cannot tell callers"),
    ],
)
def test_proxies_that_make_no_sense_are_refused(
    models: Path, changes: dict[str, str], problem: str
) -> None:
    changed = {f"MODELYARD_{name}": value for name, value in changes.items()}
    assert problem in complaint_of("serve", models, settings={**SETTINGS, **changed})
