"""From the settings to the broker."""

from __future__ import annotations

import time
from random import SystemRandom

from modelyard import __version__
from modelyard.compose.running import own_name
from modelyard.settings import Settings, SettingsError
from modelyard.telemetry.metrics import Metrics
from modelyard.transports.amqp.address import parse_addresses
from modelyard.transports.amqp.session import Broker


def make_broker(settings: Settings, metrics: Metrics) -> Broker:
    """Return the broker, and our identity there.

    Raises:
        SettingsError: Its address is none.
    """
    try:
        addresses = parse_addresses(settings.broker_url)
    except (ValueError, OSError) as error:
        raise SettingsError(f"amqp_url: {error}") from error
    return Broker(
        addresses=addresses,
        owner=own_name(),
        metrics=metrics,
        clock=time.monotonic,
        wall_clock=time.time,
        chance=SystemRandom(),
        release=__version__,
    )
