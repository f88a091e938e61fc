"""From a model's ``model.toml`` to what its runner is started with."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from modelyard.core.manifest import Manifest
from modelyard.equipment.devices import Devices
from modelyard.equipment.environments import (
    Environments,
    OnStep,
    python_in,
    without_python,
)
from modelyard.equipment.secrets import Secrets

_THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_MEMORY_SETTINGS = {
    # Batches of large arrays come and go. Left alone, the C library may hand their memory back to
    # the kernel each time and get it anew, page by page: a third of the answers per second.
    "MALLOC_MMAP_THRESHOLD_": str(16 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(32 << 20),
}


class Equipment(NamedTuple):
    """What a runner is started with.

    ``python``: the interpreter; ``variables``: all of its environment; ``give_back``: to be called
    once the runner is gone; ``is_signed``: whether somebody who is trusted has signed the model.
    """

    python: str
    variables: dict[str, str]
    give_back: Callable[[], None]
    is_signed: bool = False


class Equipper:
    """Equips the runners of a process.

    Args:
        variables: The environment of this process, without what is Modelyard's own.
        secrets: Finds secrets.
        devices: Assigns devices.
        environments: Of isolated models; None if the server's own Python is theirs.
        models: Those that are known already. What one of them names as a secret is kept from the
            others.
        check: Called with a folder before its model is started; raises if it may not be. It may
            block. None if all may.
        gateway: Variables that say by which gateway models call others.
    """

    def __init__(
        self,
        *,
        variables: Mapping[str, str],
        secrets: Secrets,
        devices: Devices,
        environments: Environments | None,
        models: Iterable[Manifest] = (),
        check: Callable[[Path], None] | None = None,
        gateway: Mapping[str, str] | None = None,
    ) -> None:
        self._gateway = dict(gateway or {})
        self._check = check
        self._variables = variables
        self._secrets = secrets
        self._devices = devices
        self._environments = environments
        self._secret_names = {name for model in models for name in model.environment.secrets}

    def find_secrets(self, manifest: Manifest) -> dict[str, str]:
        """Return the secrets that a model names.

        Raises:
            NotEquipped: One is missing.
        """
        return self._secrets.find(manifest.environment.secrets)

    async def equip(self, folder: Path, manifest: Manifest, *, on_step: OnStep) -> Equipment:
        """Find or make what the model in ``folder`` needs.

        ``on_step`` is told what takes its time, and ``""`` when that is over.

        Raises:
            NotEquipped: Something is missing or cannot be made.
        """
        if self._check is not None:
            await asyncio.to_thread(self._check, folder)
        secrets = self.find_secrets(manifest)
        self._secret_names |= secrets.keys()
        variables = self._inherited(manifest)
        python = sys.executable
        if manifest.isolated and self._environments is not None:
            environment = await self._environments.path_of(
                folder, manifest, variables=variables, on_step=on_step
            )
            on_step("")
            python, variables = python_in(environment), _activated(environment, variables)
        variables |= manifest.environment.variables | secrets
        if manifest.calls.models:
            variables |= self._gateway
        resources = manifest.resources
        taken = await self._devices.take(
            resources.gpu, kind=resources.gpu_kind, may_lack=resources.without_gpu == "cpu"
        )
        is_signed = self._check is not None
        return Equipment(python, variables | taken.variables, taken.give_back, is_signed)

    def _inherited(self, manifest: Manifest) -> dict[str, str]:
        """Return the variables that a runner inherits, and our defaults for those that it does not.

        As many numeric threads as ``[resources] cpu`` says: left alone, numeric libraries start a
        thread for each core in every runner, and fight for the cores.
        """
        threads = dict.fromkeys(_THREAD_SETTINGS, str(manifest.resources.threads))
        inherited = {
            name: value for name, value in self._variables.items() if name not in self._secret_names
        }
        return threads | _MEMORY_SETTINGS | inherited


def _activated(environment: Path, variables: dict[str, str]) -> dict[str, str]:
    """Return ``variables`` as after ``source environment/bin/activate``."""
    path = os.pathsep.join(filter(None, (str(environment / "bin"), variables.get("PATH"))))
    return without_python(variables) | {"VIRTUAL_ENV": str(environment), "PATH": path}
