"""What a model finds in its environment: variables, secrets, and devices of its own."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_authoring import lines_of
from tests.e2e.test_odd_models import SLOW, write
from tests.support.server import Server, wait_until

ENVIRONMENT = """\
import os
from modelyard import Model

class Served(Model):
    def load(self) -> None:
        print("sees", os.environ.get("CUDA_VISIBLE_DEVICES"))

    def predict(self, instances: list[str]) -> list[str | None]:
        if instances == ["*"]:
            return [" ".join(sorted(os.environ))]
        return [os.environ.get(name) for name in instances]
"""
NEVER_CACHED = "[cache]\nttl_s = 0\n"
RAISES = """\
from modelyard import Model

class Served(Model):
    def predict(self, instances: list[int]) -> list[int]:
        raise ValueError("it is the gasket")
"""


def seen(server: Server, model: str, *names: str) -> dict[str, Any]:
    """Give the environment variables that a runner of a model has, of those named."""
    values = server.predict(model, names).json()["prediction"]
    return {name: value for name, value in zip(names, values, strict=True) if value is not None}


def reason_of(server: Server, model: str) -> str:
    """Wait until a model has failed, and give the reason."""

    def failed() -> str:
        (version,) = server.http.get(f"/models/{model}").json()["versions"]
        return str(version["reason"]) if version["state"] == "failed" else ""

    return str(wait_until(failed, what=f"{model} to fail"))


def ready(server: Server, *models: str) -> None:
    """Wait until models are ready."""

    def states() -> set[str]:
        found = [server.http.get(f"/models/{model}").json()["versions"] for model in models]
        return {version["state"] for versions in found for version in versions}

    wait_until(lambda: states() == {"ready"}, what=f"{models} to be ready")


def test_a_model_finds_its_variables_and_secrets(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "VAULT_TOKEN").write_text("from the folder\n")
    (secrets / "HUB_TOKEN").write_text("the environment goes before it")
    needs = """\
[environment]
variables = { MODE = "fast", LANG = "xx" }
secrets = ["HUB_TOKEN", "VAULT_TOKEN"]
"""
    folder = write(tmp_path / "needs", ENVIRONMENT, NEVER_CACHED + needs)
    settings = {"HUB_TOKEN": "from outside", "MODELYARD_SECRETS": str(secrets), "LANG": "C.UTF-8"}
    with Server(folder, settings=settings) as server:
        assert seen(server, "needs", "MODE", "LANG", "HUB_TOKEN", "VAULT_TOKEN") == {
            "MODE": "fast",
            "LANG": "xx",
            "HUB_TOKEN": "from outside",
            "VAULT_TOKEN": "from the folder",
        }


def test_a_model_inherits_neither_settings_nor_the_secrets_of_others(tmp_path: Path) -> None:
    named = '[environment]\nsecrets = ["HUB_TOKEN"]\n'
    settings = {
        "HUB_TOKEN": "hunter2",
        "MODELYARD_REDIS_PASSWORD": "hunter3",
        "HTTPS_PROXY": "http://proxy.example",
    }
    models = [
        write(tmp_path / "plain", ENVIRONMENT, NEVER_CACHED),
        write(tmp_path / "named", ENVIRONMENT, NEVER_CACHED + named),
    ]
    names = ("HUB_TOKEN", "MODELYARD_REDIS_PASSWORD", "HTTPS_PROXY", "PATH", "HOME")
    usual = {"HTTPS_PROXY": "http://proxy.example"}
    usual |= {name: os.environ[name] for name in ("PATH", "HOME")}
    with Server(*models, settings=settings) as server:
        ready(server, "plain", "named")
        assert seen(server, "plain", *names) == usual
        assert seen(server, "named", *names) == {"HUB_TOKEN": "hunter2"} | usual
        (all_names,) = server.predict("plain", ["*"]).json()["prediction"]
        assert "OMP_NUM_THREADS" in all_names
        assert "MODELYARD_" not in all_names


def test_a_missing_secret_is_named_and_found_once_it_is_there(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "amqp_password").write_text("the server's own")
    needs = '[environment]\nsecrets = ["VAULT_TOKEN", "amqp_password"]\n'
    folder = write(tmp_path / "needs", ENVIRONMENT, NEVER_CACHED + needs)
    with Server(folder, settings={"MODELYARD_SECRETS": str(secrets)}) as server:
        reason = reason_of(server, "needs")
        assert reason.startswith("secrets VAULT_TOKEN, amqp_password missing: set each in ")
        assert str(secrets) in reason
    only = '[environment]\nsecrets = ["VAULT_TOKEN"]\n'
    folder = write(tmp_path / "other", ENVIRONMENT, NEVER_CACHED + only)
    with Server(folder, settings={"MODELYARD_SECRETS": str(secrets)}) as server:
        assert reason_of(server, "other").startswith("secret VAULT_TOKEN missing: ")
        (secrets / "VAULT_TOKEN").write_bytes(b"\xff")
        wait_until(lambda: "no text in UTF-8" in reason_of(server, "other"), what="another reason")
        (secrets / "VAULT_TOKEN").write_text("here")
        ready(server, "other")  # it was tried again
        assert seen(server, "other", "VAULT_TOKEN") == {"VAULT_TOKEN": "here"}


def test_each_runner_has_devices_of_its_own_and_gives_them_back(tmp_path: Path) -> None:
    two = "[resources]\ngpu = 2\n[scaling]\nmin_runners = 2\nmax_runners = 2\n"
    folder = write(tmp_path / "big", ENVIRONMENT, NEVER_CACHED + two)
    with Server(folder, settings={"MODELYARD_GPUS": "0, 1,2,GPU-3"}) as server:

        def seen_so_far() -> list[str]:
            return sorted(re.findall(r"sees (\S+?)[\s\"\\]", server.output))

        wait_until(lambda: len(seen_so_far()) == 2, what="both runners")
        assert seen_so_far() == ["0,1", "2,GPU-3"]
        ready(server, "big")
        for runner in server.runners():
            runner.kill()
        wait_until(lambda: len(seen_so_far()) == 4, what="two others")
        assert seen_so_far() == ["0,1", "0,1", "2,GPU-3", "2,GPU-3"]


def test_too_few_devices_are_a_failure_that_says_so(tmp_path: Path) -> None:
    one, two = (f"[resources]\ngpu = {count}\n" for count in (1, 2))
    few = write(tmp_path / "few", ENVIRONMENT, NEVER_CACHED + one)
    many = write(tmp_path / "many", ENVIRONMENT, NEVER_CACHED + two)
    amd = write(tmp_path / "amd", ENVIRONMENT, NEVER_CACHED + one + 'gpu_kind = "amd.com/gpu"\n')
    settings = {"CUDA_VISIBLE_DEVICES": "3", "ROCR_VISIBLE_DEVICES": ""}
    with Server(few, settings=settings) as server:
        ready(server, "few")
        assert seen(server, "few", "CUDA_VISIBLE_DEVICES") == {"CUDA_VISIBLE_DEVICES": "3"}
    with Server(few, many, amd, settings=settings) as server:
        ready(server, "few")
        wait_until(
            lambda: (
                reason_of(server, "many")
                == "asks for 2 of nvidia.com/gpu; this server has 1 and 1 is in use"
            ),
            what="the reason",
        )
        assert "asks for 1 of amd.com/gpu; this server has none" in reason_of(server, "amd")
    state, text = lines_of(many)["environment"]
    assert (state, text.partition(";")[0]) == ("failed", "asks for 2 of nvidia.com/gpu")


def test_a_pool_that_cannot_grow_for_want_of_a_device_serves_with_what_it_has(
    tmp_path: Path,
) -> None:
    asks = "[resources]\ngpu = 1\n[scaling]\nmax_runners = 2\n[batching]\nmax_batch_size = 1\n"
    folder = write(tmp_path / "slow", SLOW, NEVER_CACHED + asks)
    with Server(folder, settings={"MODELYARD_GPUS": "0"}) as server:
        with ThreadPoolExecutor(6) as threads:
            answers = list(threads.map(lambda _: server.predict("slow", [0.3]), range(6)))
        assert [answer.status_code for answer in answers] == [200] * 6
        failed = server.metric("modelyard_runner_restarts_total", cause="load_failed")
        assert failed == 1, "it was tried once, and not at every look"
        assert "this server has 1 and 1 is in use" in server.output


def test_amd_devices_are_counted_anew_by_hip(tmp_path: Path) -> None:
    asks = '[resources]\ngpu = 2\ngpu_kind = "amd.com/gpu"\n'
    folder = write(tmp_path / "amd", ENVIRONMENT, NEVER_CACHED + asks)
    with Server(folder, settings={"ROCR_VISIBLE_DEVICES": "2,3,4"}) as server:
        names = ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
        assert seen(server, "amd", *names) == dict(zip(names, ("2,3", "0,1"), strict=True))


@pytest.mark.parametrize(
    ("listed", "found"),
    [
        ("GPU 0: A (UUID: GPU-a)\nGPU 1: B (UUID: GPU-b)\n", "0,1"),
        (
            "GPU 0: A (UUID: GPU-a)\n"
            "  MIG 1g.5gb Device 0: (UUID: MIG-1)\n"
            "  MIG 1g.5gb Device 1: (UUID: MIG-2)\n",
            "MIG-1,MIG-2",
        ),
    ],
)
def test_devices_are_found_by_nvidia_smi(tmp_path: Path, listed: str, found: str) -> None:
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\ncat <<'LISTED'\n{listed}LISTED\n")
    tool.chmod(0o755)
    asks = "[resources]\ngpu = 2\n"
    folder = write(tmp_path / "asks", ENVIRONMENT, NEVER_CACHED + asks)
    path = f"{tool.parent}{os.pathsep}{os.environ['PATH']}"
    with Server(folder, settings={"PATH": path}) as server:
        names = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")
        assert seen(server, "asks", *names) == dict(zip(names, (found, "PCI_BUS_ID"), strict=True))


def test_a_model_that_asks_for_no_device_is_left_alone(tmp_path: Path) -> None:
    folder = write(tmp_path / "plain", ENVIRONMENT, NEVER_CACHED)
    with Server(folder, settings={"CUDA_VISIBLE_DEVICES": "5"}) as server:
        assert seen(server, "plain", "CUDA_VISIBLE_DEVICES") == {"CUDA_VISIBLE_DEVICES": "5"}


def test_what_a_model_raises_is_shown_to_callers_if_the_server_says_so(tmp_path: Path) -> None:
    folder = write(tmp_path / "raises", RAISES, NEVER_CACHED)
    with Server(folder, settings={"MODELYARD_SHOW_MODEL_ERRORS": "true"}) as server:
        assert "it is the gasket" in server.predict("raises", [1]).json()["detail"]


def test_check_looks_at_secrets(tmp_path: Path) -> None:
    needs = '[environment]\nsecrets = ["HUB_TOKEN"]\n'
    folder = write(tmp_path / "needs", ENVIRONMENT, NEVER_CACHED + needs)
    found = lines_of(folder)
    assert found["secrets"][0] == "failed"
    assert found["secrets"][1].startswith("secret HUB_TOKEN missing")
    found = lines_of(folder, HUB_TOKEN="hunter2")
    assert found["secrets"] == ("ok", "HUB_TOKEN: found")
    assert found["load"][0] == "ok"
