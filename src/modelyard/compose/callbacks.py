"""From the settings to the callbacks of jobs."""

from __future__ import annotations

import ssl
import time
from collections.abc import Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from random import Random

from modelyard.core.errors import InvalidInput
from modelyard.jobs.addresses import Destinations
from modelyard.jobs.courier import Courier
from modelyard.jobs.interfaces import DeliveryBook, JobMetrics
from modelyard.jobs.sending import Sender
from modelyard.jobs.signing import Signer
from modelyard.settings import Settings, SettingsError, parts_of

TIMEOUT_S = 15.0  # as Standard Webhooks proposes, at least
_LOOKUPS = 16


class Callbacks:
    """The callbacks of one gateway.

    Args:
        settings: Say how they are signed, and where they may go.
        book: Keeps them.
        executor: Runs what blocks.

    Raises:
        SettingsError: A secret or network is none.

    Attributes:
        signer: Signs them.
    """

    def __init__(self, settings: Settings, book: DeliveryBook, executor: Executor) -> None:
        self._has_secrets = bool(settings.callback_secrets)
        try:
            self.signer = Signer(parts_of(settings.callback_secrets))
        except ValueError as error:
            raise SettingsError(f"callback_secrets: {error}") from error
        try:
            self._destinations = Destinations(parts_of(settings.callback_networks))
        except ValueError as error:
            raise SettingsError(f"callback_networks: {error}") from error
        self._book = book
        self._executor = executor
        self._courier: Courier | None = None

    def attach(self, metrics: JobMetrics) -> None:
        """Make what sends callbacks, if there are any."""
        if not self._has_secrets:
            return
        sender = Sender(
            self._destinations,
            timeout_s=TIMEOUT_S,
            tls=ssl.create_default_context(),
            lookups=ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="jobs-look-up"),
        )
        self._courier = Courier(
            self._book,
            sender,
            self.signer,
            self._destinations,
            self._executor,
            metrics=metrics,
            wall_clock=time.time,
            chance=Random(),
        )

    def check(self, url: str) -> None:
        """See that a callback can be sent to a URL.

        Raises:
            InvalidInput: It cannot.
        """
        if not self._has_secrets:
            raise InvalidInput("this server sends no callbacks: it has no callback_secrets")
        self._destinations.check(url)

    def runs(self) -> list[Coroutine[None, None, None]]:
        """Return what sends callbacks."""
        return [] if self._courier is None else [self._courier.run()]

    def wake(self) -> None:
        """Look for callbacks that are to be sent."""
        if self._courier is not None:
            self._courier.wake()
