"""Signed versions: with trusted keys nothing else is loaded, and the reason is told."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path

import joblib
import pandas as pd
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.artefacts import homes_of, save_pipeline
from tests.support.registry import Commands, write_answers
from tests.support.server import Server, complaint_of, wait_until


class Keys:
    """A private key and its public one, as files."""

    def __init__(self, folder: Path, name: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        self.private, self.public = folder / f"{name}.key", folder / f"{name}.pem"
        form = serialization.PrivateFormat.PKCS8
        pem = serialization.Encoding.PEM
        self.private.write_bytes(key.private_bytes(pem, form, serialization.NoEncryption()))
        kind = serialization.PublicFormat.SubjectPublicKeyInfo
        self.public.write_bytes(key.public_key().public_bytes(pem, kind))


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"), "ours")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"), "theirs")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, ours: Keys, theirs: Keys) -> Path:
    """A registry with a version that we have signed, one that others have, and one that nobody."""
    folder = tmp_path_factory.mktemp("filled")
    commands = Commands(folder)
    for version, how in {
        "1": ("--sign-key", ours.private),
        "2": ("--sign-key", theirs.private),
        "3": (),
    }.items():
        commands.run("push", write_answers(folder / version, version), *how)
    return folder


@pytest.fixture
def commands(tmp_path: Path, filled: Path) -> Commands:
    """The filled registry, which is the test's own."""
    shutil.copytree(filled, tmp_path / "registry")
    return Commands(tmp_path / "registry")


def trusting(commands: Commands, *keys: Keys) -> dict[str, str]:
    named = ",".join(str(key.public) for key in keys)
    return {**commands.settings, "MODELYARD_TRUSTED_KEYS": named}


def test_only_what_a_trusted_key_has_signed_is_loaded(commands: Commands, ours: Keys) -> None:
    settings = trusting(commands, ours)
    with Server(Path("answers@1"), settings=settings) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
        assert server.predict("answers", ["a"]).json()["prediction"] == ["from 1"]
    for command in ("serve", "worker"):
        told = complaint_of(command, "answers@2", settings=settings)
        assert "nobody who is trusted has signed it" in told
        assert "ours.pem" in told
        assert "it has no signature" in complaint_of(command, "answers@3", settings=settings)


def test_one_of_several_keys_is_enough(commands: Commands, ours: Keys, theirs: Keys) -> None:
    commands.settings = trusting(commands, ours, theirs)
    assert "signed by ours.pem" in commands.run("verify", "answers@1")
    assert "signed by theirs.pem" in commands.run("verify", "answers@2")
    assert "no signature" in commands.refuse("verify", "answers@3")


def test_a_folder_is_loaded_only_with_its_signature_and_unchanged(
    commands: Commands, ours: Keys, tmp_path: Path
) -> None:
    folder, unsigned = tmp_path / "served" / "1", tmp_path / "served" / "3"
    commands.run("pull", "answers@1", "--into", folder)
    commands.run("pull", "answers@3", "--into", unsigned)
    with Server(folder.parent, settings=trusting(commands, ours)) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")

        def state(version: str) -> tuple[str, str]:
            found = server.http.get("/models/answers").json()["versions"]
            (one,) = (one for one in found if one["version"] == version)
            return one["state"], one["reason"]

        assert state("1") == ("ready", "")
        wait_until(lambda: state("3")[0] == "failed", what="the refusal")
        assert "it has no signature" in state("3")[1]
        code = folder / "src" / "model.py"
        code.write_text(code.read_text().replace("from 1", "evil"))
        answer = server.http.post("/models/answers/load")
        assert answer.status_code == 503
        says = ("nobody who is trusted has signed it as it is", "src/model.py")
        wait_until(lambda: all(text in server.output for text in says), what="why, in the log")
        assert server.predict("answers", ["a"], model_version="1").json()["prediction"] == [
            "from 1"
        ]


def test_a_signature_of_another_version_is_none(
    commands: Commands, ours: Keys, tmp_path: Path
) -> None:
    pulled = tmp_path / "pulled"
    commands.run("pull", "answers@1", "--into", pulled)
    stolen = write_answers(tmp_path / "stolen", "9")
    (stolen / ".signature").write_bytes((pulled / ".signature").read_bytes())
    commands.run("push", stolen)
    commands.settings = trusting(commands, ours)
    assert "nobody who is trusted" in commands.refuse("verify", "answers@9")


@pytest.mark.parametrize("damage", ["none at all", "{}", "payload", '{"dsseEnvelope": 1}'])
def test_a_damaged_signature_is_refused(
    commands: Commands, ours: Keys, tmp_path: Path, damage: str
) -> None:
    pulled = tmp_path / "pulled"
    commands.run("pull", "answers@1", "--into", pulled)
    signature = pulled / ".signature"
    if damage == "payload":
        bundle = json.loads(signature.read_text())
        payload = base64.b64decode(bundle["dsseEnvelope"]["payload"]).replace(b"words", b"weeds")
        bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
        damage = json.dumps(bundle)
    signature.write_text(damage)
    fresh = Commands(tmp_path / "fresh", settings={})
    fresh.run("push", pulled)
    fresh.settings = trusting(fresh, ours)
    assert "nobody who is trusted" in fresh.refuse("verify", "answers@1")


def test_the_librarys_own_command_reads_our_signature(
    commands: Commands, ours: Keys, tmp_path: Path
) -> None:
    folder = tmp_path / "pulled"
    commands.run("pull", "answers@1", "--into", folder)
    signature = (folder / ".signature").rename(tmp_path / "signature.json")
    tool = str(Path(sys.executable).with_name("model_signing"))
    how = ["verify", "key", "--signature", str(signature), "--public_key", str(ours.public)]
    done = subprocess.run([tool, *how, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_keys_that_are_none_are_told(
    commands: Commands, filled: Path, ours: Keys, tmp_path: Path
) -> None:
    folder = filled / "1"
    nothing = {"MODELYARD_TRUSTED_KEYS": str(tmp_path / "nothing.pem")}
    assert "nothing.pem" in complaint_of("serve", folder, settings=nothing)
    private = {"MODELYARD_TRUSTED_KEYS": str(ours.private)}
    assert "ours.key" in complaint_of("serve", folder, settings=private)
    new = write_answers(tmp_path / "8", "8")
    assert "cannot sign" in commands.refuse("push", new, "--sign-key", ours.public)


def test_a_signature_does_not_come_later(commands: Commands, filled: Path, ours: Keys) -> None:
    told = commands.refuse("push", filled / "3", "--sign-key", ours.private)
    assert "without a signature" in told


def test_a_pickle_is_loaded_only_if_it_is_allowed_and_signed(
    commands: Commands, ours: Keys, tmp_path: Path
) -> None:
    _, pipeline = save_pipeline(tmp_path / "homes.skops")
    for version, allowed in (("1", "true"), ("2", "false")):
        folder = tmp_path / "pickled" / version
        (folder / "assets").mkdir(parents=True)
        joblib.dump(pipeline, folder / "assets" / "homes.joblib")
        (folder / "model.toml").write_text(
            f'name = "homes"\nversion = "{version}"\nruntime = "sklearn"\n'
            f'artefact = "assets/homes.joblib"\nallow_pickle = {allowed}\n'
        )
        commands.run("push", folder, "--sign-key", ours.private)
    settings = trusting(commands, ours)
    homes = pd.DataFrame(homes_of(20))
    with Server(Path("homes@1"), Path("homes@2"), settings=settings) as server:

        def states() -> dict[str, str]:
            found = server.http.get("/models/homes").json()["versions"]
            return {one["version"]: one["state"] + one["reason"] for one in found}

        wait_until(lambda: states()["2"].startswith("failed"), what="the refusal")
        assert "homes.joblib is a pickle, which needs allow_pickle = true" in states()["2"]
        wait_until(lambda: states()["1"] == "ready", what="the model")
        answer = server.predict("homes", homes.to_dict("records"), model_version="1")
        assert answer.json()["prediction"] == pipeline.predict(homes).tolist()
    shown = json.loads(commands.run("show", "homes@1", "--json"))
    assert shown["contents"]["runtime"] == "sklearn"
    with Server(tmp_path / "homes.skops", settings=settings) as server:
        wait_until(lambda: states()["1"].startswith("failed"), what="the refusal")
        assert "a bare artefact has no version that could be signed" in states()["1"]
    with Server(tmp_path / "pickled" / "1") as server:
        wait_until(lambda: states()["1"].startswith("failed"), what="the refusal")
        assert "only where the server has trusted_keys" in states()["1"]
