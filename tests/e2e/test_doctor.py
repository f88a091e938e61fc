"""``modelyard doctor`` with real services, healthy and not: what it says is wrong, and never why we
should not have asked: it prints no secret.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from modelyard import __version__
from modelyard.core.names import Target
from modelyard.store.schema import open_engine, upgrade
from modelyard.transports.amqp import envelope
from modelyard.transports.amqp.address import parse_addresses
from modelyard.transports.amqp.announcer import publish_status
from modelyard.transports.amqp.opening import open_connection
from modelyard.transports.amqp.topology import declare_exchanges
from tests.docs.pages import blocks_of
from tests.support.broker import Broker
from tests.support.cache import RedisServer
from tests.support.ports import free_port
from tests.support.postgres import Postgres
from tests.support.preloaded import run
from tests.support.server import MODELYARD, PATIENCE_S

SECRET = "planted-secret-7"
# All that a gateway needs but the exchange of cards.
RIGHTS = r"^(modelyard\.(requests|replies|catalog|hello|notices)|(replies|catalog)\..+)$"
EVERYTHING, NOTHING = ".*", "^$"
SMALL_BYTES = 3_000_000


class Services(NamedTuple):
    """What a gateway needs, each with a password."""

    broker: Broker
    redis: RedisServer
    database: str

    def settings(self, user: str = "whole") -> dict[str, str]:
        return {
            "MODELYARD_AMQP_URL": f"amqp://127.0.0.1:{self.broker.port}/",
            "MODELYARD_AMQP_USERNAME": user,
            "MODELYARD_AMQP_PASSWORD": SECRET,
            "MODELYARD_REDIS_URL": self.redis.url,
            "MODELYARD_DATABASE_URL": self.database,
            "MODELYARD_MAX_BODY_BYTES": "1000000",
        }


def permissions(user: str, configure: str) -> dict[str, str]:
    """What RabbitMQ calls the rights of a user."""
    return {"user": user, "vhost": "/", "configure": configure, "write": configure, "read": ".*"}


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    folder = tmp_path_factory.mktemp("doctor")
    definitions = folder / "definitions.json"
    users = {"whole": EVERYTHING, "modelyard": RIGHTS, "none": NOTHING}
    definitions.write_text(
        json.dumps(
            {
                "vhosts": [{"name": "/"}],
                "users": [{"name": one, "password": SECRET, "tags": ""} for one in users],
                "permissions": [permissions(*pair) for pair in users.items()],
            }
        )
    )
    config = f"load_definitions = {definitions}\nmax_message_size = {SMALL_BYTES}\n"
    with ExitStack() as stack:
        database = stack.enter_context(Postgres(password=SECRET))
        redis = stack.enter_context(RedisServer(folder, password=SECRET))
        broker = stack.enter_context(Broker(folder / "broker", more_config=config))
        engine = open_engine(database.url)
        upgrade(engine)
        engine.dispose()
        yield Services(broker, redis, database.url)


def outdated(services: Services) -> dict[str, str]:
    """Settings with a user who lacks a right, bodies that are too large, and an old database."""
    url = services.database.replace("/postgres", "/template1")
    engine = open_engine(url)
    upgrade(engine, to="0003")
    engine.dispose()
    large = str(2 * SMALL_BYTES)
    more = {"MODELYARD_DATABASE_URL": url, "MODELYARD_MAX_BODY_BYTES": large}
    return services.settings("modelyard") | more


def doctor(*arguments: str, home: Path, **settings: str) -> tuple[int, list[dict[str, str]]]:
    """Run it; give its exit code and what it has found. No secret may be seen."""
    kept = {name: value for name, value in os.environ.items() if "MODELYARD_" not in name}
    environment = {**kept, "XDG_STATE_HOME": str(home), **settings}
    done = run("doctor", "--json", *arguments, env=environment, timeout=PATIENCE_S)
    assert SECRET not in done.stdout + done.stderr
    assert not done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer["ok"] is (done.returncode == 0)
    assert answer["release"] == __version__
    findings: list[dict[str, str]] = answer["findings"]
    for one in findings:
        assert (one["state"] == "ok") is ("do" not in one), one
    return done.returncode, findings


def printed(home: Path, **settings: str) -> str:
    """Run it as people do; give what it says."""
    kept = {name: value for name, value in os.environ.items() if "MODELYARD_" not in name}
    command = [MODELYARD, "doctor"]
    env = {**kept, "XDG_STATE_HOME": str(home), **settings}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    return done.stdout


def masked(text: str) -> list[str]:
    """Give the lines without what differs from one installation to another: places and numbers."""
    text = re.sub(r"\w+://[^\s,;]+", "URL", text)
    text = re.sub(r"(\d+\.){3}\d+:\d+|\bredis:\d+", "PLACE", text)
    text = re.sub(r"ahead|behind", "off", text)
    text = re.sub(r"\d[\d,.]*( [kMG]B| ms)?", "0", text)
    return [" ".join(line.split()) for line in text.splitlines()]


def found(findings: list[dict[str, str]], check: str, state: str) -> str:
    """Give all that a check says of this kind."""
    return "\n".join(
        f"{one['what']} -> {one.get('do')}"
        for one in findings
        if (one["check"], one["state"]) == (check, state)
    )


@pytest.mark.own_broker
def test_a_cluster_that_is_well(services: Services, tmp_path: Path) -> None:
    code, findings = doctor(home=tmp_path, **services.settings())
    assert code == 0, findings
    assert not found(findings, "settings", "warn")
    told = found(findings, "broker", "ok")
    assert "RabbitMQ " in told
    assert "takes all that a gateway does there, messages of 1 MB" in told
    assert "Redis " in found(findings, "redis", "ok")
    assert "PostgreSQL " in found(findings, "database", "ok")
    assert "no worker is up" in found(findings, "members", "ok")
    assert found(findings, "clocks", "ok").count("\n") == 1  # of Redis, and of the database
    code, findings = doctor("--for", "worker", home=tmp_path, **services.settings())
    assert code == 0, findings
    assert "takes all that a worker does" in found(findings, "broker", "ok")


@pytest.mark.own_broker
def test_what_each_service_refuses_is_said_with_what_to_do(
    services: Services, tmp_path: Path
) -> None:
    wrong = {
        **services.settings(),
        "MODELYARD_AMQP_PASSWORD": f"{SECRET}x",
        "MODELYARD_REDIS_URL": services.redis.url.replace(SECRET, f"{SECRET}x"),
        "MODELYARD_DATABASE_URL": services.database.replace(SECRET, f"{SECRET}x"),
    }
    code, findings = doctor(home=tmp_path, **wrong)
    assert code == 1
    assert "correct amqp_username and amqp_password" in found(findings, "broker", "fail")
    assert "correct redis_username and redis_password" in found(findings, "redis", "fail")
    assert "correct user and password in database_url" in found(findings, "database", "fail")

    port = free_port()
    closed = {
        "MODELYARD_AMQP_URL": f"amqp://x:{SECRET}@127.0.0.1:{port}/",
        "MODELYARD_REDIS_URL": f"redis://x:{SECRET}@127.0.0.1:{port}/",
        "MODELYARD_DATABASE_URL": f"postgresql://x:{SECRET}@127.0.0.1:{port}/x",
    }
    code, findings = doctor("--url", f"http://127.0.0.1:{port}", home=tmp_path, **closed)
    assert code == 1
    for check in ("broker", "redis", "database", "members"):
        said = found(findings, check, "fail")
        assert str(port) in said
        assert "start" in said

    code, findings = doctor(home=tmp_path, **outdated(services))
    assert code == 1
    assert "is 0003, this release needs" in found(findings, "database", "fail")
    assert "modelyard store upgrade" in found(findings, "database", "fail")
    said = found(findings, "broker", "fail")
    assert "modelyard cannot declare its exchanges" in said
    assert "modelyard.cards" in said
    assert "list_user_permissions modelyard" in said
    assert "raise max_message_size" in said


@pytest.mark.own_broker
async def test_members_of_another_release_or_time_and_a_broker_that_takes_nothing(
    services: Services, tmp_path: Path
) -> None:
    url = f"amqp://whole:{SECRET}@127.0.0.1:{services.broker.port}/"
    connection = await open_connection(
        parse_addresses(url)[0],
        name="an older worker",
        confirm_timeout_s=PATIENCE_S,
        on_lost=lambda _: None,
        clock=time.monotonic,
    )
    await connection.confirm_publishing()
    await declare_exchanges(connection)

    async def announce() -> None:
        while True:
            status = envelope.Status(
                worker="w",
                host="node-7",
                target=Target("iris", "2"),
                card="c",
                state="ready",
                release="0.0.9",
                at=time.time() - 60,
            )
            await publish_status(connection, status)
            await asyncio.sleep(0.1)

    speaking = asyncio.create_task(announce())
    code, findings = await asyncio.to_thread(doctor, home=tmp_path, **services.settings())
    said = await asyncio.to_thread(printed, tmp_path, **outdated(services))
    speaking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await speaking
    await connection.close()
    assert code == 1, findings
    assert "iris/2 on node-7" in found(findings, "members", "warn")
    assert f"run 0.0.9, this is {__version__}" in found(findings, "members", "warn")
    assert "the clock of the worker on node-7 is 6" in found(findings, "clocks", "fail")
    (example,) = [b.text for b in blocks_of("doctor.md") if b.text.startswith("$ modelyard doctor")]
    head, tail = example.split("\n", 1)[1].split("…\n")  # there are the limits of the machine
    lines = masked(said)
    assert lines[: len(masked(head))] == masked(head)
    assert lines[-1:] == masked(tail)

    await asyncio.to_thread(services.broker.control, "set_vm_memory_high_watermark", "0")
    code, findings = await asyncio.to_thread(doctor, home=tmp_path, **services.settings())
    assert code == 1
    assert "it takes no messages: an alarm" in found(findings, "broker", "fail")


def test_settings_that_are_wrong_contradict_each_other_or_can_be_read_by_others(
    tmp_path: Path,
) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "redis_password").write_text(SECRET)
    (secrets / "redis_password").chmod(0o644)
    settings = {
        "MODELYARD_SECRETS": str(secrets),
        "MODELYARD_HOST": "0.0.0.0",
        "MODELYARD_PROT": "80",
        "MODELYARD_TLS_KEY": "key.pem",
        "MODELYARD_MAX_BODIES_BYTES": "2048",
        "MODELYARD_CALLBACK_SECRETS": SECRET,
    }
    code, findings = doctor(home=tmp_path, **settings)
    assert code == 1
    assert "did you mean MODELYARD_PORT" in found(findings, "settings", "warn")
    assert "max_bodies_bytes is below" in found(findings, "settings", "warn")
    assert "no redis_url" in found(findings, "settings", "warn")
    wrong = found(findings, "settings", "fail")
    for part in ("nothing says who may ask", "need tls_certificate", "callback_secrets"):
        assert part in wrong
    assert "chmod o-rwx" in found(findings, "files", "warn")
    assert "files may be open" in found(findings, "limits", "ok")

    code, findings = doctor(home=tmp_path, MODELYARD_PORT="eighty")
    assert code == 1
    assert "MODELYARD_PORT: Expected" in found(findings, "settings", "fail")

    code, findings = doctor(home=tmp_path, MODELYARD_AUTH="keys")
    assert "modelyard keys create" in found(findings, "database", "fail")
    assert [one["check"] for one in findings if one["state"] == "fail"] == ["database"]
    assert not (tmp_path / "modelyard").exists()  # it has changed nothing
