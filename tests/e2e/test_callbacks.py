"""Callbacks: what a receiver gets, what becomes of one that does not take it, and where none go."""

from __future__ import annotations

import json
import os
import ssl
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme
from openai import InvalidWebhookSignatureError, OpenAI
from standardwebhooks import Webhook, WebhookVerificationError

from tests.e2e.conftest import TRICK
from tests.support.jobs import Store
from tests.support.receiver import Receiver
from tests.support.server import Server, wait_until

SECRETS = [f"whsec_{b64encode(os.urandom(32)).decode()}" for _ in range(2)]


class Told:
    """A server that tells callbacks to receivers on loopback."""

    def __init__(self, server: Server, receiver: Receiver, secure: Receiver) -> None:
        self.server = server
        self.receiver = receiver
        self.secure = secure

    def submit(self, url: str, **trick: Any) -> str:
        """Submit a job whose end is told to a URL; give its address."""
        body = {"model_name": "trick_model", "input_data": [{"nonce": 1, **trick}]}
        headers = {"prefer": "respond-async", "job-callback": url, "job-max-attempts": "1"}
        answer = self.server.http.post("/predict", json=body, headers=headers)
        assert answer.status_code == 202, answer.text
        return str(answer.headers["location"])

    def delivery(self, job: str) -> dict[str, Any] | None:
        """Return the callback of a job, once it has been sent."""
        found = self.server.http.get(f"{job}/deliveries").json()["deliveries"]
        return found[0] if found and (found[0]["status"] or found[0]["error"]) else None

    def tell(self, path: str) -> tuple[str, dict[str, Any]]:
        """Let a job be told at a path; give its address, and what came of the first attempt."""
        job = self.submit(self.receiver.url + path)
        return job, wait_until(lambda: self.delivery(job), what=f"an attempt at {path}")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    folder = tmp_path_factory.mktemp("callbacks")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    settings = {
        **Store(folder).settings,
        "MODELYARD_CALLBACK_SECRETS": ",".join(SECRETS),
        "MODELYARD_CALLBACK_NETWORKS": "127.0.0.0/8",
        "SSL_CERT_FILE": str(folder / "ca.pem"),
    }
    with ExitStack() as stack:
        receiver = stack.enter_context(Receiver())
        secure = stack.enter_context(Receiver(context))
        server = stack.enter_context(Server(TRICK, settings=settings))
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
        yield Told(server, receiver, secure)


def test_the_end_of_a_bulk_run_is_told_as_that_of_a_job(told: Told) -> None:
    asked, rows = {"model": "trick_model", "format": "jsonl"}, b'{"nonce": 1}\n'

    def make(url: str) -> Any:
        headers = {"job-callback": url}
        return told.server.http.post("/batches", params=asked, content=rows, headers=headers)

    answer = make(f"{told.receiver.url}/200/bulk")
    assert answer.status_code == 202, answer.text
    wait_until(lambda: told.receiver.at("/200/bulk"), what="the callback")
    (received,) = told.receiver.at("/200/bulk")
    secrets = told.server.http.get("/callbacks/secrets").json()["secrets"]
    event = Webhook(secrets[0]).verify(received.body, received.headers)
    assert event["type"] == "job.succeeded"
    assert event["data"] == {"id": answer.json()["id"], "state": "succeeded"}
    assert make("http://10.0.0.1/hook").status_code == 422


def test_a_receiver_gets_little_and_can_check_it_with_each_secret(told: Told) -> None:
    job, delivery = told.tell("/200/ok")
    assert (delivery["state"], delivery["status"], delivery["attempts"]) == ("delivered", 200, 1)
    (received,) = told.receiver.at("/200/ok")
    assert received.headers["webhook-id"] == delivery["id"]
    assert received.headers["webhook-signature"].count("v1,") == len(SECRETS)
    secrets = told.server.http.get("/callbacks/secrets").json()["secrets"]
    assert len(secrets) == len(SECRETS)
    webhooks = OpenAI(api_key="none").webhooks  # another project's verifier
    for secret in secrets:
        told_of = Webhook(secret).verify(received.body, received.headers)
        assert told_of["type"] == "job.succeeded"
        webhooks.verify_signature(received.body, received.headers, secret=secret)
        assert told_of["data"] == {"id": job.rpartition("/")[2], "state": "succeeded"}
    for secret in SECRETS:  # the server's own: with one of those anybody could forge anybody's
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(received.body, received.headers)
        with pytest.raises(InvalidWebhookSignatureError):
            webhooks.verify_signature(received.body, received.headers, secret=secret)
    assert not set(secrets) & set(SECRETS)


def test_it_goes_over_tls_to_whom_an_authority_vouches_for(told: Told) -> None:
    job = told.submit(f"{told.secure.url}/200/secure", act="raise")
    wait_until(lambda: told.secure.at("/200/secure"), what="the callback")
    (received,) = told.secure.at("/200/secure")
    assert json.loads(received.body)["type"] == "job.failed"
    wrong = told.submit(f"https://127.0.0.1:{told.secure.port}/200/wrong")
    found = wait_until(lambda: told.delivery(wrong), what="an attempt")
    assert found["state"] == "pending"
    assert "certificate" in found["error"].lower()
    assert not told.secure.at("/200/wrong")
    assert told.server.http.get(job).json()["state"] == "failed"


def test_what_fails_is_sent_again_with_the_same_id_and_what_is_final_is_not(told: Told) -> None:
    once, first = told.tell("/500-once/x")
    assert (first["state"], first["error"]) == ("pending", "the receiver answered 500")
    assert 4 <= first["due"] - first["created"] <= 8
    _, gone = told.tell("/410/gone")
    assert (gone["state"], gone["attempts"], gone["due"]) == ("failed", 1, None)
    _, moved = told.tell("/301/moved")
    assert moved["state"] == "pending"
    assert "redirects are not followed" in moved["error"]
    assert not told.receiver.at("/200/followed")
    _, later = told.tell("/429/later")
    assert later["due"] - later["created"] >= 3600
    _, dated = told.tell("/503/in-an-hour")
    assert dated["due"] - dated["created"] >= 3500
    for path, why in (("/chatter/x", "no HTTP"), ("/endless/x", "too long")):
        _, odd = told.tell(path)
        assert (odd["state"], odd["status"]) == ("pending", None)
        assert why in odd["error"]
    wait_until(lambda: len(told.receiver.at("/500-once/x")) == 2, what="the second attempt")
    ids = {one.headers["webhook-id"] for one in told.receiver.at("/500-once/x")}
    assert ids == {first["id"]}

    def is_delivered() -> bool:
        found = told.delivery(once)
        return found is not None and found["state"] == "delivered"

    wait_until(is_delivered, what="it to be delivered")
    replay = told.server.http.post(f"{once}/deliveries/{first['id']}/replay")
    assert replay.status_code == 204
    wait_until(lambda: len(told.receiver.at("/500-once/x")) == 3, what="the replay")


def test_receivers_that_never_answer_hold_up_nobody_else(told: Told) -> None:
    for number in range(20):
        told.submit(f"{told.receiver.url}/never/{number}")
    wait_until(lambda: [one for one in told.receiver.received if "never" in one.path], what="some")
    with Receiver() as other:
        job = told.submit(f"{other.url}/200/quick")
        wait_until(lambda: other.at("/200/quick"), what="the callback of another")
        assert len({one.path for one in told.receiver.received if "never" in one.path}) < 20
        wait_until(lambda: told.delivery(job), what="it to be noted")


def test_nothing_goes_where_only_the_server_can_reach(tmp_path: Path) -> None:
    settings = {**Store(tmp_path).settings, "MODELYARD_CALLBACK_SECRETS": SECRETS[0]}
    with Receiver() as receiver, Server(TRICK, settings=settings) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
        told = Told(server, receiver, receiver)
        body = {"model_name": "trick_model", "input_data": [{"nonce": 1}]}
        for url in (
            "http://example.org/hook",
            "https://127.0.0.1/hook",
            "https://[::1]/hook",
            "https://[::ffff:10.0.0.1]/hook",
            "https://169.254.169.254/latest/meta-data",
            "https://10.1.2.3/hook",
            "https://user:secret@example.org/hook",
            "ftp://example.org/hook",
            "https://example.org/a hook",
            "hook",
        ):
            headers = {"prefer": "respond-async", "job-callback": url}
            refused = server.http.post("/predict", json=body, headers=headers)
            assert (refused.status_code, refused.json()["code"]) == (422, "invalid_input"), url
        job = told.submit(f"https://localhost:{receiver.port}/200/hook")
        found = wait_until(lambda: told.delivery(job), what="an attempt")
        assert (found["state"], found["due"]) == ("failed", None)
        assert "no address that this server calls" in found["error"]
        assert receiver.received == []
