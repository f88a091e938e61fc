"""``compose.yaml``: valid by the schema of the Compose specification, complete, and locked down."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from modelyard.settings import PREFIX, Settings
from tests.support.server import ROOT

FILE = ROOT / "compose.yaml"
CHECKER = str(Path(sys.executable).with_name("check-jsonschema"))
MODELS = {manifest.parent.name for manifest in ROOT.glob("models/*/model.toml")}


def services() -> dict[str, dict[str, Any]]:
    """Give the services as the file has them, variables and all."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text())["services"]
    return found


def follows_the_schema(path: Path) -> bool:
    """Ask a checker that carries the schema."""
    done = subprocess.run(
        [CHECKER, "--builtin-schema", "vendor.compose-spec", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout)
    return done.returncode == 0


def test_it_follows_the_specification(tmp_path: Path) -> None:
    assert follows_the_schema(FILE)
    broken = tmp_path / "compose.yaml"
    broken.write_text(FILE.read_text().replace("read_only: true", "read_only: [true]"))
    assert not follows_the_schema(broken)


def test_every_model_has_a_worker_and_there_are_two_gateways() -> None:
    built = [service["build"] for service in services().values() if "build" in service]
    workers = [build["args"]["MODEL"] for build in built if "args" in build]
    assert sorted(workers) == sorted(MODELS)
    assert all((ROOT / build["dockerfile"]).is_file() for build in built)
    assert [build["dockerfile"] for build in built].count("app/Dockerfile") == 2


@pytest.mark.parametrize("name", services())
def test_a_service_is_locked_down_and_watched(name: str) -> None:
    service = services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"].split(":")[0] not in ("", "0", "root")
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["mem_limit"]
    for needed, how in service.get("depends_on", {}).items():
        assert needed in services()
        assert how == {"condition": "service_healthy"}
    for port in service.get("ports", []):
        assert port.startswith("${HOST:-127.0.0.1}:")


@pytest.mark.parametrize("name", services())
def test_a_service_is_told_its_password_by_a_variable_that_must_be_set(name: str) -> None:
    service = services()[name]
    assert "PASS" not in f"{service.get('command')} {service.get('entrypoint')}"
    for variable, value in service.get("environment", {}).items():
        assert (
            not variable.startswith(PREFIX) or variable.removeprefix(PREFIX).lower() in settings()
        )
        if variable in ("MODELYARD_AMQP_URL", "RABBITMQ_DEFAULT_PASS"):
            assert "${RABBITMQ_PASSWORD:?" in value


def settings() -> set[str]:
    """Give the names of all settings."""
    return {field.name for field in msgspec.structs.fields(Settings)}


@pytest.mark.parametrize("name", ["rabbitmq", "redis"])
def test_what_others_have_made_has_an_exact_version(name: str) -> None:
    image = services()[name]["image"]
    assert re.fullmatch(r"\$\{[A-Z]+_IMAGE:-docker\.io/[a-z/]+:\d+\.\d+\.\d+-alpine\}", image)
