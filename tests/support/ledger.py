"""The ledger: what was asked, what was answered. A fault may cost time, never a right answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

import httpx

from tests.support.raw import Line, connect, request_bytes
from tests.support.server import PATIENCE_S, wait_until

MODEL = "trick_model"

Body = dict[str, Any]
Trick = dict[str, Any]


def answer_of(nonce: int) -> int:
    """What ``trick_model`` answers."""
    return nonce * 3 + 1


class Ledger:
    """Keeps ``connections`` requests under way and notes every outcome.

    Args:
        urls: The gateways. A connection that one of them refuses is made to the next, as a load
            balancer would.
        connections: How many requests are under way.
        timeout_s: The deadline of each.
        trick: What each instance says beside its nonce.
        answers: What each version of the model answers, if not ``answer_of``.
    """

    def __init__(
        self,
        *urls: str,
        connections: int = 32,
        timeout_s: float = 30,
        trick: Trick | None = None,
        answers: Mapping[str, Callable[[int], int]] | None = None,
    ) -> None:
        self.statuses: Counter[int | str] = Counter()
        self.versions: Counter[str] = Counter()
        self.wrong = self.duplicate = self.sent = 0
        self.slowest_s: dict[int, float] = {}  # by status
        self._urls = urls
        self._connections = connections
        self._timeout_s = timeout_s
        self._trick = trick or {}
        self._answers = answers or {}
        self._nonces = count(1)
        self._answered: set[str] = set()
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

    def check(self, *allowed: int) -> None:
        """See that the promise was kept: only 200 and ``allowed``, nothing lost, wrong or twice."""
        print(self)
        assert self.statuses[200] > 0, self
        assert set(self.statuses) <= {200, *allowed}, self
        assert (self.lost, self.wrong, self.duplicate) == (0, 0, 0), self

    def __str__(self) -> str:
        slowest = ", ".join(f"{status}: {s:.2f} s" for status, s in self.slowest_s.items())
        return (
            f"ledger: sent {self.sent}, lost {self.lost}, wrong {self.wrong}, "
            f"duplicate {self.duplicate}, {dict(self.statuses)}, slowest {slowest}"
        )

    async def _run(self, done: Callable[[], bool]) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(self._connections):
                group.create_task(self._ask_on_and_on(number))
            try:
                await asyncio.to_thread(wait_until, done, what="the end of the load")
            finally:
                self._stop = True

    async def _ask_on_and_on(self, number: int) -> None:
        while not self._stop:
            try:
                line = await self._connect(number)
            except OSError as error:
                self.sent += 1  # no gateway takes it
                self.statuses[type(error).__name__] += 1
                return
            async with line:
                await self._ask_while_open(line)

    async def _ask_while_open(self, line: Line) -> None:
        while not self._stop:
            await self._ask_by_hand(line)
            if not line.is_open:
                return
        await self._see_that_no_more_comes(line)

    async def _connect(self, number: int) -> Line:
        refused: OSError | None = None
        for turn in range(len(self._urls)):
            try:
                return await connect(self._urls[(number + turn) % len(self._urls)])
            except OSError as error:
                refused = error
        raise refused or OSError("no gateway was named")

    async def _ask_by_hand(self, line: Line) -> None:
        nonce = next(self._nonces)
        body = self._body({"nonce": nonce, **self._trick})
        request = request_bytes(json.dumps(body).encode(), f"x-request-id: {self._begin()}")
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout_s + PATIENCE_S):
                answer = await line.ask(request)
        except (OSError, EOFError, TimeoutError) as error:
            self.statuses[type(error).__name__] += 1
            return
        self._note(began, nonce, answer.status, answer.headers, answer.body)

    async def _see_that_no_more_comes(self, line: Line) -> None:
        with contextlib.suppress(OSError):
            async with asyncio.timeout(PATIENCE_S):
                self.duplicate += (await line.rest()).count(b"HTTP/1.1 ")

    async def ask(self, client: httpx.AsyncClient, trick: Trick) -> httpx.Response | None:
        """Ask once, and note the outcome."""
        body, headers = self._body(trick), {"x-request-id": self._begin()}
        began = time.monotonic()
        try:
            response = await client.post("/predict", json=body, headers=headers)
        except httpx.HTTPError as error:
            self.statuses[type(error).__name__] += 1
            return None
        status, nonce = response.status_code, trick["nonce"]
        self._note(began, nonce, status, response.headers, response.content)
        return response

    def _body(self, trick: Trick) -> Body:
        return {"model_name": MODEL, "input_data": [trick], "timeout_s": self._timeout_s}

    def _begin(self) -> str:
        self.sent += 1
        return f"ledger-{id(self)}-{self.sent}"

    def _note(
        self, began: float, nonce: int, status: int, headers: Mapping[str, str], content: bytes
    ) -> None:
        took_s = time.monotonic() - began
        self.slowest_s[status] = max(self.slowest_s.get(status, 0.0), took_s)
        self.statuses[status] += 1
        if headers["x-request-id"] in self._answered:
            self.duplicate += 1
        self._answered.add(headers["x-request-id"])
        if status == 200:
            self.wrong += not self._is_right(nonce, content)

    def _is_right(self, nonce: int, content: bytes) -> bool:
        try:
            told = json.loads(content)
        except ValueError:
            return False
        version = told["model_version"]
        self.versions[version] += 1
        return bool(told["prediction"] == [self._answers.get(version, answer_of)(nonce)])


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
