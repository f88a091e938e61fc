"""From the settings to what equips and starts runners."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from modelyard.compose.registry import open_trust
from modelyard.core.manifest import Manifest, ManifestError
from modelyard.core.spans import RUNNER_TRACES
from modelyard.core.trail import CALL_KEY, GATEWAY_URL
from modelyard.equipment import NotEquipped
from modelyard.equipment.devices import Devices
from modelyard.equipment.environments import Environments
from modelyard.equipment.equipper import Equipper
from modelyard.equipment.secrets import Secrets
from modelyard.folder import FolderError
from modelyard.pool.launcher import Launcher
from modelyard.registry.errors import RegistryError
from modelyard.registry.folders import read_contents
from modelyard.settings import Settings
from modelyard.surroundings import read_surroundings


def make_equipper(
    settings: Settings, models: Iterable[Manifest], *, gateway_url: str = ""
) -> Equipper:
    """Return the Equipper for the runners of ``models``.

    ``gateway_url``: by which they call others, unless the settings name another.
    """
    variables, secrets, reserved, caches = read_surroundings()
    if settings.traces != "off":
        variables = {**variables, RUNNER_TRACES: f"{settings.traces} {settings.traces_url}"}
    environments: Environments | None = None
    if settings.make_environments:
        environments = Environments(_environments_folder(settings, caches))
    return Equipper(
        variables=variables,
        secrets=Secrets(variables, secrets, reserved=reserved),
        devices=Devices(settings.devices, variables),
        environments=environments,
        models=models,
        check=_check_of(settings),
        gateway={GATEWAY_URL: settings.gateway_url or gateway_url, CALL_KEY: settings.call_key},
    )


def _check_of(settings: Settings) -> Callable[[Path], None] | None:
    """Return what sees that a folder is signed; None if nothing has to be."""
    trust = open_trust(settings)
    if trust is None:
        return None

    def check(folder: Path) -> None:
        try:
            trust.check(*read_contents(folder))
        except (RegistryError, FolderError, ManifestError, OSError) as error:
            raise NotEquipped(str(error)) from error

    return check


def make_launcher(
    settings: Settings, models: Iterable[Manifest], *, gateway_url: str = ""
) -> Launcher:
    """Return the Launcher that starts the runners of ``models``; see ``make_equipper``."""
    equipper = make_equipper(settings, models, gateway_url=gateway_url)
    return Launcher(equipper, shows_errors=settings.show_model_errors)


def _environments_folder(settings: Settings, caches: Path | None) -> Path | None:
    if named := settings.environments_folder:
        return Path(named).expanduser().absolute()
    return caches / "modelyard" / "environments" if caches else None
