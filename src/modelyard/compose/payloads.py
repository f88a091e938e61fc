"""From ``payload_log_file`` to what sees answers and keeps them."""

from __future__ import annotations

import random
import time
from collections.abc import Coroutine
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from modelyard.compose.access import OpenGate
from modelyard.compose.brought import Brought
from modelyard.compose.running import own_name
from modelyard.core.messages import Announcement
from modelyard.drift.reference import UnusableProfileError, read_profile
from modelyard.payloads.config import ConfigError, read_config
from modelyard.settings import Settings, SettingsError
from modelyard.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from modelyard.payloads.log import PayloadLog
    from modelyard.payloads.process import PayloadWriter
    from modelyard.registry.kept import KeptRegistry


class OpenPayloads(NamedTuple):
    """A payload log, what keeps its writer running, and what gives it references of models."""

    log: PayloadLog
    writer: PayloadWriter
    brought: Brought | None

    def runs(self) -> list[Coroutine[None, None, None]]:
        """Return what goes on as long as it is open."""
        return [self.writer.run(), *([] if self.brought is None else [self.brought.run()])]

    def see(self, announcement: Announcement) -> None:
        """See whether a target has brought a reference."""
        if self.brought is not None:
            self.brought.see(announcement)


def open_payloads(
    settings: Settings, metrics: Metrics, gate: OpenGate | None, registry: KeptRegistry | None
) -> OpenPayloads | None:
    """Return the payload log that the settings ask for; None if they do not. ``registry``: has
    references of models; None if there is none.

    Raises:
        SettingsError: Its file cannot be used.
    """
    if not settings.payload_log_file:
        return None
    from modelyard.payloads.log import PayloadLog
    from modelyard.payloads.process import PayloadWriter

    try:
        config = read_config(Path(settings.payload_log_file).expanduser())
        for reference in config.references.values():
            read_profile(Path(reference))
    except (ConfigError, UnusableProfileError) as error:
        raise SettingsError(f"payload_log_file: {error}") from error
    if config.references and find_spec("psi_inference") is None:
        raise SettingsError("payload_log_file: references need: pip install 'modelyard[drift]'")
    if not config.sends_events and find_spec("fsspec") is None:
        raise SettingsError("payload_log_file: files need: pip install 'modelyard[payloads]'")
    if config.format == "parquet" and find_spec("pyarrow") is None:
        raise SettingsError("payload_log_file: Parquet needs: pip install 'modelyard[parquet]'")
    log = PayloadLog(
        config,
        chance=random.random,
        clock=time.monotonic,
        wall_clock=time.time,
        owner_of=(lambda _: "") if gate is None else gate.accounts.owner_of,
    )
    brought = Brought(log, registry, named=config.references) if config.drift.from_models else None
    writer = PayloadWriter(config, log, metrics.payloads, name=own_name())
    return OpenPayloads(log, writer, brought)
