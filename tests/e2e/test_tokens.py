"""Tokens of an identity provider: signed by keys that it publishes, in a file or at a URL."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.identities import write_others
from tests.support.server import Server, complaint_of, wait_until

ISSUER = "https://id.example.com"
FILE = """\
[[issuers]]
issuer = "{issuer}"
audience = "modelyard"
jwks = "{jwks}"
scopes_claim = "scope"
[[issuers.rules]]
claim = "groups"
value = "ml-team"
scopes = ["predict:people", "read"]
"""


class Provider:
    """Signs tokens with the newest of its keys."""

    def __init__(self) -> None:
        self._keys: list[rsa.RSAPrivateKey] = []
        self.roll()

    def roll(self) -> None:
        """Sign with another key from now on."""
        self._keys.append(rsa.generate_private_key(public_exponent=65537, key_size=2048))

    @property
    def jwks(self) -> str:
        """Its public keys."""
        algorithm = jwt.algorithms.RSAAlgorithm
        return json.dumps(
            {
                "keys": [
                    {**json.loads(algorithm.to_jwk(key.public_key())), "kid": str(number)}
                    for number, key in enumerate(self._keys)
                ]
            }
        )

    def token(self, **claims: Any) -> str:
        """Return a token; a claim of None is left out."""
        whole = {"iss": ISSUER, "aud": "modelyard", "sub": "ada", "exp": time.time() + 600}
        given = {name: value for name, value in {**whole, **claims}.items() if value is not None}
        kid = str(len(self._keys) - 1)
        return jwt.encode(given, self._keys[-1], algorithm="RS256", headers={"kid": kid})


@pytest.fixture(scope="module")
def provider() -> Provider:
    return Provider()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_others(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def jwks(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the provider's keys are for the server."""
    path = tmp_path_factory.mktemp("provider") / "jwks"
    path.write_text(provider.jwks)
    return path


def settings(folder: Path, jwks: str) -> dict[str, str]:
    (folder / "tokens.toml").write_text(FILE.format(issuer=ISSUER, jwks=jwks))
    return {"MODELYARD_AUTH": "keys", "MODELYARD_TOKENS_FILE": str(folder / "tokens.toml")}


@pytest.fixture(scope="module")
def server(models: Path, jwks: Path) -> Iterator[Server]:
    with Server(models, settings=settings(jwks.parent, str(jwks))) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the models")
        yield server


def ask(server: Server, token: str, model: str = "people") -> int:
    instances: Any = [{"name": "Ada"}] if model == "people" else {"a": [], "b": []}
    headers = {"authorization": f"Bearer {token}"}
    return server.predict(model, instances, headers=headers).status_code


def test_claims_give_scopes(server: Server, provider: Provider) -> None:
    assert ask(server, provider.token(groups=["ml-team", "x"])) == 200
    assert ask(server, provider.token(groups="ml-team")) == 200
    assert ask(server, provider.token(groups=["ml-team"]), "sums") == 403
    assert ask(server, provider.token(scope="openid modelyard:predict:peop* email")) == 200
    assert ask(server, provider.token(scope=["modelyard:predict:people", 7])) == 200
    assert ask(server, provider.token(scope="openid admin predict:people")) == 404
    assert ask(server, provider.token()) == 404


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": 1000},
        {"exp": None},
        {"aud": "another"},
        {"aud": None},
        {"iss": "https://evil.example.com"},
        {"iss": None},
        {"sub": None},
        {"sub": ""},
        {"nbf": 1 << 33},
    ],
)
def test_what_a_token_lacks_makes_it_invalid(
    server: Server, provider: Provider, claims: dict[str, Any]
) -> None:
    assert ask(server, provider.token(scope="modelyard:admin", **claims)) == 401


def test_a_token_that_nobody_signed_is_invalid(server: Server, provider: Provider) -> None:
    claims = {"iss": ISSUER, "aud": "modelyard", "sub": "ada", "exp": time.time() + 600}
    claims["scope"] = "modelyard:admin"
    public = json.loads(provider.jwks)["keys"][0]["n"]
    forged = [
        jwt.encode(claims, "", algorithm="none", headers={"kid": "0"}),
        jwt.encode(claims, public, algorithm="HS256", headers={"kid": "0"}),
        jwt.encode(claims, public, algorithm="HS256"),
        Provider().token(scope="modelyard:admin"),
    ]
    genuine = provider.token(scope="modelyard:predict:people")
    head, body, signature = genuine.split(".")
    other = provider.token(scope="modelyard:admin").split(".")[1]
    forged += [f"{head}.{other}.{signature}", f"{head}.{body}.", f"{head}.{body}", "a.b.c", "..."]
    for token in forged:
        assert ask(server, token) == 401, token
    assert ask(server, genuine) == 200


def test_a_clock_may_be_a_little_wrong(server: Server, provider: Provider) -> None:
    assert (
        ask(server, provider.token(scope="modelyard:predict:people", exp=time.time() - 10)) == 200
    )
    assert (
        ask(server, provider.token(scope="modelyard:predict:people", exp=time.time() - 40)) == 401
    )


def test_keys_roll_over_without_a_restart(server: Server, provider: Provider, jwks: Path) -> None:
    old = provider.token(groups="ml-team")
    assert ask(server, old) == 200
    provider.roll()
    new = provider.token(groups="ml-team")
    assert ask(server, new) == 401
    jwks.write_text(provider.jwks)
    wait_until(lambda: ask(server, new) == 200, what="the new key")
    assert ask(server, old) == 200
    jwks.write_text('{"keys": []}')
    wait_until(lambda: "issuer_keys_not_read" in server.output, what="a word about it")
    assert ask(server, new) == 200


def test_keys_may_be_at_a_url(models: Path, tmp_path: Path) -> None:
    provider = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(provider.jwks.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as published:
        threading.Thread(target=published.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{published.server_address[1]}/keys"
        try:
            with Server(models, settings=settings(tmp_path, url)) as server:
                wait_until(lambda: server.http.get("/readyz").status_code == 200, what="models")
                assert ask(server, provider.token(groups="ml-team")) == 200
                provider.roll()
                new = provider.token(groups="ml-team")
                wait_until(lambda: ask(server, new) == 200, what="the new key")
        finally:
            published.shutdown()


def test_no_key_is_needed_beside_tokens(server: Server, provider: Provider) -> None:
    assert httpx.get(server.url + "/models").status_code == 401
    headers = {"authorization": f"Bearer {provider.token(scope='modelyard:read')}"}
    assert len(httpx.get(server.url + "/models", headers=headers).json()["models"]) == 2


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "missing required field"),
        ("[[issuers]]\nissuer = 'x'\naudience = 'y'\njwks = '/nothing'", "No such file"),
        (FILE.format(issuer="x", jwks="y").replace("read", "nonsense"), "is not a valid scope"),
        (FILE.format(issuer="x", jwks="y") + "more = 1", "unknown field"),
        (
            FILE.format(issuer="x", jwks="y") + "\n[[issuers.limits]]\nper_day = 5",
            "per_day and per_month need the store",
        ),
        ("[[issuers]]\nissuer = 'x'\naudience = 'y'\njwks = 'z'\nalgorithms = ['HS256']", "HS256"),
    ],
)
def test_a_file_that_cannot_be_used_is_said_in_one_line(
    models: Path, tmp_path: Path, text: str, problem: str
) -> None:
    found = settings(tmp_path, "")
    (tmp_path / "tokens.toml").write_text(text)
    assert problem in complaint_of("serve", models, settings=found)
