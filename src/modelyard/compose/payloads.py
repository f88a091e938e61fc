"""From ``payload_log_file`` to what sees answers and keeps them."""

from __future__ import annotations

import random
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from modelyard.compose.access import OpenGate
from modelyard.compose.running import own_name
from modelyard.drift.reference import UnusableProfileError, read_profile
from modelyard.payloads.config import ConfigError, read_config
from modelyard.settings import Settings, SettingsError
from modelyard.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from modelyard.payloads.log import PayloadLog
    from modelyard.payloads.process import PayloadWriter


class OpenPayloads(NamedTuple):
    """A payload log, and what keeps its writer running."""

    log: PayloadLog
    writer: PayloadWriter


def open_payloads(
    settings: Settings, metrics: Metrics, gate: OpenGate | None
) -> OpenPayloads | None:
    """Return the payload log that the settings ask for; None if they do not.

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
    return OpenPayloads(log, PayloadWriter(config, log, metrics.payloads, name=own_name()))
