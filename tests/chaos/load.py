"""The load: clients at both gateways, in a thread of its own, that can be made to pause."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from random import Random
from types import TracebackType

from tests.chaos.ledger import Ledger
from tests.chaos.questions import ROLES, Question, Role, make_question
from tests.support.raw import Answer, Line, connect
from tests.support.server import PATIENCE_S, wait_until

CLOSED = (ConnectionError, asyncio.IncompleteReadError)
LOST_AFTER_S = 30.0  # past its deadline: a slow machine is late, it does not lose


class Door:
    """Where a gateway is asked; what stands in for a load balancer's knowledge of it.

    ``closing_at``: when it was told to stop. ``is_gone``: it takes no more, ask another.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.closing_at: float | None = None
        self.is_gone = False


class Client:
    """Asks one thing after the other at the door that is its own, or another while that is gone."""

    def __init__(self, load: Load, role: Role, home: int, random: Random) -> None:
        self._load = load
        self._role = role
        self._home = home
        self._random = random
        self._line: Line | None = None
        self._door: Door | None = None

    async def ask_on_and_on(self) -> None:
        """Ask until cancelled."""
        while True:
            await asyncio.sleep(self._random.uniform(*self._role.pause_s))
            if not self._load.is_open:
                await self._load.wait_for_leave()
                continue  # not all at the same moment
            self._load.busy += 1
            try:
                await self._ask(make_question(self._role, self._random))
            finally:
                self._load.busy -= 1

    async def hang_up(self) -> None:
        """Close the connection, and see that nothing is left on it."""
        line, self._line = self._line, None
        if line is not None and line.is_open:
            try:
                rest = await line.rest()
            except CLOSED:
                rest = b""
            if rest:
                self._load.ledger.violate("duplicate", f"nobody asked for {rest[:300]!r}")
            line.close()

    async def _ask(self, question: Question) -> None:
        ledger = self._load.ledger
        asked, sent = ledger.ask(question), time.monotonic()
        patience_s = question.timeout_s + LOST_AFTER_S
        limit_s = patience_s if question.stays_s is None else question.stays_s
        try:
            async with asyncio.timeout(limit_s):
                number, answer = await self._ask_somewhere(question)
            is_mine = ledger.answer(question, answer, door=number, sent=sent, asked=asked)
            if not is_mine and self._line is not None:
                self._line.close()  # what comes next on it would be someone else's as well
        except CLOSED as error:
            ledger.lose(question, repr(error))
        except TimeoutError:
            if self._line is not None:
                self._line.close()
            if question.stays_s is None:
                ledger.lose(question, f"no answer in {limit_s:g} s")
            else:
                ledger.leave(question)

    async def _ask_somewhere(self, question: Question) -> tuple[int, Answer]:
        """Ask at a door; at another if this one was told to stop before we came."""
        while True:
            number, door = self._load.choose(self._home)
            sent = time.monotonic()
            try:
                line = await self._connect(door)
                sent = time.monotonic()
                return number, await line.ask(question.request)
            except CLOSED:
                if self._line is not None:
                    self._line.close()
                if door.closing_at is None or sent < door.closing_at:
                    raise
                door.is_gone = True
                self._load.ledger.moved += 1

    async def _connect(self, door: Door) -> Line:
        if self._line is None or not self._line.is_open or self._door is not door:
            if self._line is not None:
                self._line.close()
            self._line, self._door = await connect(door.url), door
        return self._line


class Load:
    """All clients, as long as the ``with`` block. They pause until ``resume``.

    Args:
        doors: The gateways'; an element is replaced when its gateway is.
        ledger: Told of every request and answer.
        seed: Of what is asked.
    """

    def __init__(self, doors: list[Door], ledger: Ledger, *, seed: int) -> None:
        self.ledger = ledger
        self.busy = 0
        self._doors = doors
        self._is_open = asyncio.Event()
        self._is_over = asyncio.Event()
        self._clients = [
            Client(self, role, number % len(doors), Random(f"{seed} {role.name} {number}"))
            for role in ROLES
            for number in range(role.clients)
        ]
        self._loop = asyncio.new_event_loop()
        self._executor = ThreadPoolExecutor(1)

    def __enter__(self) -> Load:
        self._end = self._executor.submit(self._loop.run_until_complete, self._run())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._tell(self._is_over.set)
            self._end.result(PATIENCE_S)
        finally:
            self._executor.shutdown()
            self._loop.close()

    @property
    def is_open(self) -> bool:
        """Whether clients may ask."""
        return self._is_open.is_set()

    def resume(self) -> None:
        """Let the clients ask."""
        self._tell(self._is_open.set)

    def pause(self) -> None:
        """Let the clients finish, and close their connections."""
        self._tell(self._is_open.clear)
        wait_until(lambda: not self.busy, what="the clients to pause")
        for client in self._clients:
            self._run_there(client.hang_up())

    async def wait_for_leave(self) -> None:
        """Wait while the load pauses."""
        await self._is_open.wait()

    def choose(self, home: int) -> tuple[int, Door]:
        """Give the door to knock at, and its number."""
        number = home if not self._doors[home].is_gone else (home + 1) % len(self._doors)
        return number, self._doors[number]

    def _tell(self, deed: Callable[[], None]) -> None:
        async def do() -> None:
            deed()

        self._run_there(do())

    def _run_there(self, deed: Coroutine[None, None, None]) -> None:
        """Have something done in the thread of the clients, and wait until it is."""
        if self._end.done():
            deed.close()
            self._end.result()  # raises what ended the clients, which nothing should
        asyncio.run_coroutine_threadsafe(deed, self._loop).result(PATIENCE_S)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            clients = [group.create_task(client.ask_on_and_on()) for client in self._clients]
            await self._is_over.wait()
            for task in clients:
                task.cancel()
