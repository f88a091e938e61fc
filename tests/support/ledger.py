"""The ledger: what was asked, what was answered. A fault may cost time, never a right answer."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Any

import httpx

from tests.support.server import wait_until

MODEL = "trick_model"


def answer_of(nonce: int) -> int:
    """What ``trick_model`` answers."""
    return nonce * 3 + 1


class Ledger:
    """Keeps ``connections`` requests under way and notes every outcome."""

    def __init__(
        self,
        url: str,
        *,
        connections: int = 32,
        timeout_s: float = 30,
        trick: dict[str, Any] | None = None,
    ) -> None:
        self.statuses: Counter[int | str] = Counter()
        self.wrong = 0
        self.sent = 0
        self._url = url
        self._connections = connections
        self._timeout_s = timeout_s
        self._trick = trick or {}
        self._nonces = count(1)
        self._stop = False

    @property
    def answered(self) -> int:
        """How many requests got an HTTP answer."""
        return sum(n for status, n in self.statuses.items() if isinstance(status, int))

    @property
    def lost(self) -> int:
        """How many got none."""
        return self.sent - self.answered

    def run_until(self, done: Callable[[], bool]) -> None:
        """Load until ``done``, then wait for all that is under way."""
        asyncio.run(self._run(done))
        print(self)

    def __str__(self) -> str:
        return f"ledger: sent {self.sent}, lost {self.lost}, wrong {self.wrong}, {self.statuses}"

    async def _run(self, done: Callable[[], bool]) -> None:
        limits = httpx.Limits(max_connections=self._connections)
        async with (
            httpx.AsyncClient(base_url=self._url, limits=limits, timeout=60) as client,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(self._connections):
                group.create_task(self._ask_on_and_on(client))
            try:
                await asyncio.to_thread(wait_until, done, what="the end of the load")
            finally:
                self._stop = True

    async def _ask_on_and_on(self, client: httpx.AsyncClient) -> None:
        while not self._stop:
            nonce = next(self._nonces)
            await self.ask(client, {"nonce": nonce, **self._trick})

    async def ask(self, client: httpx.AsyncClient, trick: dict[str, Any]) -> httpx.Response | None:
        """Ask once, and note the outcome."""
        self.sent += 1
        body = {"model_name": MODEL, "input_data": [trick], "timeout_s": self._timeout_s}
        try:
            response = await client.post("/predict", json=body)
        except httpx.HTTPError as error:
            self.statuses[type(error).__name__] += 1
            return None
        self.statuses[response.status_code] += 1
        if response.status_code == 200 and response.json()["prediction"] != [
            answer_of(trick["nonce"])
        ]:
            self.wrong += 1
        return response


class Every:
    """Does something every ``seconds``, ``times`` times; a condition for ``run_until``."""

    def __init__(self, seconds: float, times: int, deed: Callable[[], bool]) -> None:
        self._seconds = seconds
        self._left = times
        self._deed = deed
        self._next = time.monotonic() + seconds

    def __call__(self) -> bool:
        if self._left and time.monotonic() >= self._next and self._deed():
            self._left -= 1
            self._next = time.monotonic() + self._seconds
        return not self._left
