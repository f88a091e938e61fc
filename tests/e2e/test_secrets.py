"""Secrets that everything here is given, and that stand in no log, on no terminal, in no answer."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import jwt
import pytest

from tests.support import preloaded
from tests.support.broker import Broker
from tests.support.identities import write_others
from tests.support.keys import Keys
from tests.support.ports import free_port
from tests.support.raw import ask, request_bytes
from tests.support.server import PATIENCE_S, Member, Server, wait_until

# One that is written otherwise in a URL: both ways of writing must not be seen.
PASSWORD = "pl@nted/secret"
WRITTEN = quote(PASSWORD, safe="")
UNKNOWN_KEY = "mdy_" + "plantedunknownkey".ljust(36, "0")
TOKEN = jwt.encode({"iss": "https://planted.example", "sub": "x"}, "planted" * 8)
EVERYTHING = {"MODELYARD_LOG_LEVEL": "debug", "MODELYARD_ACCESS_LOG": "true"}


def url_of(scheme: str, port: int, path: str = "") -> str:
    return f"{scheme}://planted:{WRITTEN}@127.0.0.1:{port}/{path}"


def check(text: str, *more: str) -> None:
    """See that ``text`` says something, and none of the secrets."""
    assert text.strip()
    for secret in (PASSWORD, WRITTEN, UNKNOWN_KEY, TOKEN, TOKEN.rpartition(".")[2], *more):
        assert secret not in text


def run(*arguments: str | Path, **settings: str) -> str:
    """Run a command to its end, and return all that it says."""
    environment = {**os.environ, **EVERYTHING, **settings}
    done = preloaded.run(*arguments, env=environment, timeout=PATIENCE_S)
    return done.stdout + done.stderr


@pytest.fixture
def key_file(tmp_path: Path) -> tuple[str, Path]:
    printed = Keys(tmp_path).run("keys", "create", "--toml", "--owner", "x", "--scope", "admin")
    entry, key = re.split(r"^# .*: (?=mdy_)", printed.strip(), flags=re.MULTILINE)
    (tmp_path / "keys.toml").write_text(entry)
    return key, tmp_path / "keys.toml"


@pytest.fixture
def tokens_file(tmp_path: Path) -> Path:
    """One whose issuer's keys are at a URL with a password, where nobody listens any more."""
    path = tmp_path / "tokens.toml"
    jwks = url_of("http", free_port(), "keys")
    path.write_text(
        f'[[issuers]]\nissuer = "https://planted.example"\naudience = "x"\njwks = "{jwks}"\n'
    )
    return path


def headers(key: str) -> Iterator[dict[str, str]]:
    for sent in (key, UNKNOWN_KEY, TOKEN, f"{key}x"):
        yield {"authorization": f"Bearer {sent}"}
        yield {"authorization": f"Basic {sent}"}
        yield {"x-api-key": sent}
        yield {"authorization": sent, "x-request-id": "1", "content-type": "text/html"}


def test_keys_and_tokens_are_logged_nowhere(tmp_path: Path, key_file: tuple[str, Path]) -> None:
    key, file = key_file
    settings = {
        **EVERYTHING,
        "MODELYARD_AUTH": "keys",
        "MODELYARD_KEYS_FILE": str(file),
        "MODELYARD_GRPC_PORT": "0",
        "MODELYARD_SHOW_MODEL_ERRORS": "true",
    }
    said = ""
    with Server(write_others(tmp_path / "models"), settings=settings) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the models")
        for sent in headers(key):
            for name in ("Ada", "nobody", "broken"):
                body = {"model_name": "people", "input_data": [{"name": name}]}
                said += server.http.post("/predict", json=body, headers=sent).text
            for path in (f"/models?api_key={key}", "/docs", "/nothing", "/metrics", "/v2"):
                said += server.http.get(path, headers=sent).text
            lines = [f"{name}: {value}" for name, value in sent.items()]
            for broken in ("a b: c", "content-length: x", "transfer-encoding: cow"):
                raw = request_bytes(b"", *lines, broken)
                said += ask(server.url, raw).body.decode()
        file.write_text(f"[[keys]]\nid = '{key}")  # somebody errs
        wait_until(lambda: "keys_not_read" in server.output, what="a word about it")
    check(said, key)
    check(server.output, key)


def test_the_passwords_of_what_a_cluster_needs_are_logged_nowhere(
    broker: Broker, tmp_path: Path, key_file: tuple[str, Path]
) -> None:
    worker = ["worker", str(write_others(tmp_path / "models") / "people-1")]
    refusing, absent = int(httpx.URL(broker.url).port or 0), free_port()
    for command, port in ((["gateway"], refusing), (worker, refusing), (["gateway"], absent)):
        settings = {
            **EVERYTHING,
            "MODELYARD_AMQP_URL": url_of("amqp", port),
            "MODELYARD_REDIS_URL": url_of("redis", free_port()),
            "MODELYARD_AUTH": "keys",
            "MODELYARD_KEYS_FILE": str(key_file[1]),
            "MODELYARD_DRAIN_S": "1",
        }
        with Member(*command, settings=settings) as member:
            wait_until(lambda: "broker_" in member.output, what="a try")
            member.http.post("/predict", json={}, headers={"x-api-key": key_file[0]})
        check(member.output, key_file[0])


def test_commands_tell_no_password(tmp_path: Path, tokens_file: Path) -> None:
    models = write_others(tmp_path / "models")
    database = {
        "MODELYARD_DATABASE_URL": url_of("postgresql", free_port(), "store"),
        "MODELYARD_AUTH": "keys",
    }
    tokens = {"MODELYARD_TOKENS_FILE": str(tokens_file), "MODELYARD_AUTH": "keys"}
    check(run("serve", models, "--port", "0", **database))
    check(run("serve", models, "--port", "0", **tokens))
    check(run("keys", "list", **database))
    check(run("store", "upgrade", **database))
    urls = {
        "MODELYARD_AMQP_URL": url_of("amqp", 1),
        "MODELYARD_REDIS_URL": url_of("redis", 1),
        "MODELYARD_AMQP_PASSWORD": PASSWORD,
        "MODELYARD_REDIS_PASSWORD": PASSWORD,
    }
    check(run("config", **urls, **database))
    check(run("predict", "people", "[]", MODELYARD_API_KEY=UNKNOWN_KEY))
    check(run("models", MODELYARD_API_KEY=UNKNOWN_KEY))
