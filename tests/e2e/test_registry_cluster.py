"""The registry of a cluster: rows in PostgreSQL, artefacts in S3, callers with keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.support.broker import Broker
from tests.support.keys import Keys
from tests.support.postgres import Postgres
from tests.support.registry import Commands, write_answers
from tests.support.s3 import S3
from tests.support.server import Member, wait_until


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with S3() as server:
        yield server


class Yard:
    """A gateway, and commands by people with different keys."""

    def __init__(self, stack: ExitStack, broker: Broker, s3: S3, folder: Path) -> None:
        postgres = stack.enter_context(Postgres())
        self.keys = Keys(folder, database_url=postgres.url)
        self.keys.run("store", "upgrade")
        scopes = {
            "reader": ("read",),
            "asker": ("predict:answers",),
            "releaser": ("release:answers",),
            "stranger": ("release:other",),
            "admin": ("admin",),
        }
        self.texts = {name: self.keys.create(name, *of) for name, of in scopes.items()}
        self.settings = {"MODELYARD_AMQP_URL": broker.url, **s3.settings}
        log = folder / "payload-log.toml"
        log.write_text('url = "kept"\nrate = 1\ndrop = ["request"]\n[drift]\nwindow = 200\n')
        own = {"MODELYARD_PAYLOAD_LOG_FILE": str(log), **self.keys.settings}
        member = Member("gateway", settings={**self.settings, **own})
        self.gateway = stack.enter_context(member)
        self.gateway.http.headers["x-api-key"] = self.texts["admin"]
        wait_until(lambda: self.gateway.http.get("/readyz").status_code == 200, what="the gateway")
        self._folder = folder

    def as_(self, name: str) -> Commands:
        """Give the commands of somebody."""
        settings = {"MODELYARD_API_KEY": self.texts[name], **self.settings}
        del settings["MODELYARD_ARTEFACTS_URL"]
        return Commands(self._folder / name, url=self.gateway.url, settings=settings)


@pytest.fixture(scope="module")
def yard(broker: Broker, s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    with ExitStack() as stack:
        yield Yard(stack, broker, s3, tmp_path_factory.mktemp("yard"))


def test_who_may_push_look_and_collect(yard: Yard, tmp_path: Path) -> None:
    folder = write_answers(tmp_path / "1", "1")
    for name in ("reader", "asker"):
        assert "lacks" in yard.as_(name).refuse("push", folder)
    assert "lacks the scope release:answers" in yard.as_("stranger").refuse("push", folder)
    yard.as_("releaser").run("push", folder)
    for name in ("reader", "asker", "releaser", "admin"):
        assert "by releaser" in yard.as_(name).run("show", "answers@1")
    assert "answers" not in yard.as_("stranger").run("list")
    assert "model" in yard.as_("stranger").refuse("show", "answers@1")
    assert "lacks" in yard.as_("releaser").refuse("gc")
    assert "lacks" in yard.as_("reader").refuse("alias", "answers@1", "prod")
    other = write_answers(tmp_path / "other", "1", "another answer")
    assert "answers/1" in yard.as_("releaser").refuse("push", other)

    def audited(*options: str) -> str:
        return yard.keys.run("audit", *options)

    for act in ("collect", "aliases/prod", "versions/1", "HEAD /registry/blobs"):
        wait_until(lambda act=act: act in audited("--act", "refused"), what=act)  # type: ignore[misc]
    conflict = audited("--model", "answers", "--owner", "releaser", "--act", "refused:")
    assert "PUT /registry/models/answers/versions/1" in conflict
    assert len(conflict.splitlines()) == 2
    assert "releaser" not in audited("--owner", "stranger", "--since", "1h")
    assert "releaser" in audited("--owner", "team", "--since", "1h")  # whose key that is
    assert audited("--since", "2999-01-01").splitlines()[1:] == []
    assert "refused" not in audited("--act", "key create")


def test_a_stranger_is_refused_before_its_artefact_is_read(yard: Yard) -> None:
    path = f"{yard.gateway.url}/registry/blobs/sha256/{'0' * 64}"
    for key, status in {"mdy_nothing": 401, yard.texts["reader"]: 403}.items():
        with httpx.Client(headers={"x-api-key": key}) as client:
            answer = client.put(path, content=b"x" * 20_000_000)
            assert answer.status_code == status
            assert answer.headers["connection"] == "close"
            assert client.head(path).status_code == status


def test_a_worker_fetches_what_an_alias_names_and_nothing_in_use_is_collected(
    yard: Yard, s3: S3, tmp_path: Path
) -> None:
    releaser, admin = yard.as_("releaser"), yard.as_("admin")
    sample = tmp_path / "sample.json"
    sample.write_text(json.dumps(["a", "b"] * 200))
    folder = write_answers(tmp_path / "11", "11")
    assert "reference.json: 400 rows" in releaser.run("push", folder, "--reference", sample)
    for version in ("12", "13", "14"):
        releaser.run("push", write_answers(tmp_path / version, version))
    releaser.run("alias", "answers@12", "prod", "--why", "the best one")
    assert all(key.startswith("registry/sha256/") for key in s3.objects())
    settings = yard.as_("reader").settings
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "api_key").write_text(settings.pop("MODELYARD_API_KEY"))
    settings["MODELYARD_SECRETS"] = str(secrets)
    with Member("worker", Path("answers@11"), settings=settings) as worker:
        wait_until(lambda: worker.http.get("/readyz").status_code == 200, what="the worker")
        gateway = yard.gateway
        wait_until(lambda: gateway.http.get("/models/answers").status_code == 200, what="the model")
        answer = gateway.predict("answers", ["a"], model_version="11")
        assert answer.json()["prediction"] == ["from 11"]
        (served,) = gateway.http.get("/models/answers").json()["versions"]
        pushed = {one["version"]: one for one in json.loads(admin.run("list", "--json"))}
        assert served["digest"] == pushed["11"]["digest"]
        wait_until(lambda: gateway.events("reference_used"), what="what the model has brought")
        of_requests = {"model": "answers", "version": "11", "feature": "request"}
        for asked, has_drifted in ((["a", "b"], 0), (["b", "c"], 1)):
            assert gateway.predict("answers", asked * 100, model_version="11").is_success
            wait_until(
                lambda now=has_drifted: gateway.metric("modelyard_drift_windows_total") == now + 1,  # type: ignore[misc]
                what="a window",
            )
            assert gateway.metric("modelyard_drift_detected", **of_requests) == has_drifted
        looked = admin.run("gc", "--keep", "1", "--dry-run")
        assert "would remove answers/13" in looked
        removed = admin.run("gc", "--keep", "1")
        for version, is_removed in {"11": False, "12": False, "13": True, "14": False}.items():
            assert (f"removed answers/{version}\n" in removed) == is_removed
    assert "collected" in releaser.run("show", "answers")
    another = write_answers(tmp_path / "other", "13", "another one")
    assert "its name stays taken" in releaser.refuse("push", another)
    releaser.run("push", tmp_path / "13")
    releaser.run("verify", "answers@13")


def test_s3_that_is_away_is_told_and_disturbs_nothing_else(broker: Broker, tmp_path: Path) -> None:
    folder = write_answers(tmp_path / "1", "1")
    (folder / "assets" / "large.bin").write_bytes(b"\0" * 9_000_000)
    with S3() as s3:
        commands = Commands(tmp_path / "state", settings=s3.settings)
        commands.run("push", folder)
        into = tmp_path / "pulled"
        commands.run("pull", "answers@1", "--into", into)
        assert (into / "assets" / "large.bin").stat().st_size == 9_000_000
        s3.stop()
        told = commands.refuse("push", write_answers(tmp_path / "2", "2"))
        assert "the place of the artefacts cannot" in told
        assert "cannot read" in commands.refuse("verify", "answers@1")
        assert len(json.loads(commands.run("list", "--json"))) == 1
