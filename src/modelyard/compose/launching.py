"""From the settings to what equips and starts runners."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from modelyard.core.manifest import Manifest
from modelyard.equipment.devices import Devices
from modelyard.equipment.environments import Environments
from modelyard.equipment.equipper import Equipper
from modelyard.equipment.secrets import Secrets
from modelyard.pool.launcher import Launcher
from modelyard.settings import Settings
from modelyard.surroundings import read_surroundings


def make_equipper(settings: Settings, models: Iterable[Manifest]) -> Equipper:
    """Return the Equipper for the runners of ``models``."""
    variables, secrets, reserved, caches = read_surroundings()
    environments: Environments | None = None
    if settings.make_environments:
        environments = Environments(_environments_folder(settings, caches))
    return Equipper(
        variables=variables,
        secrets=Secrets(variables, secrets, reserved=reserved),
        devices=Devices(settings.devices, variables),
        environments=environments,
        models=models,
    )


def make_launcher(settings: Settings, models: Iterable[Manifest]) -> Launcher:
    """Return the Launcher that starts the runners of ``models``."""
    equipper = make_equipper(settings, models)
    return Launcher(equipper, shows_errors=settings.show_model_errors)


def _environments_folder(settings: Settings, caches: Path | None) -> Path | None:
    if named := settings.environments_folder:
        return Path(named).expanduser().absolute()
    return caches / "modelyard" / "environments" if caches else None
