"""The product's parts, put together as ``modelyard.compose`` does: a gateway, a worker, and all in
one process. Each is a simulated process; ``kill`` ends it without a word, ``stop`` as SIGTERM does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from modelyard.caches.layered import LayeredCache
from modelyard.caches.memory import MemoryCache
from modelyard.core.errors import GivenUp
from modelyard.core.messages import Announcement
from modelyard.core.names import Target
from modelyard.dispatch.catalog import Catalog
from modelyard.dispatch.dispatch import Dispatch
from modelyard.dispatch.interfaces import Transport
from modelyard.gateway.preparing import Predicting
from modelyard.transports.amqp.announcer import Announcer
from modelyard.transports.amqp.consumer import AmqpConsumer
from modelyard.transports.amqp.lanes import Capacity
from modelyard.transports.amqp.pieces import PieceSender
from modelyard.transports.amqp.replies import Replies
from modelyard.transports.amqp.session import Session
from modelyard.transports.amqp.transport import AmqpTransport
from modelyard.transports.amqp.watcher import Watcher
from modelyard.transports.local import LocalTransport
from tests.simulation.cache import SimulatedFarCache
from tests.simulation.calls.http import Inner
from tests.simulation.door import Door
from tests.simulation.jobs.office import Office
from tests.simulation.ledger import Asked, GatewayMetrics
from tests.simulation.part import Part, background
from tests.simulation.pooled import Pooled
from tests.simulation.schedule import Model
from tests.simulation.streams.reader import Reader

if TYPE_CHECKING:
    from tests.simulation.world import World

DRAIN_S = 30.0
TIMEOUT_CAP_S = 300.0


class Front(Part):
    """Whatever takes requests."""

    catalog: Catalog
    dispatch: Dispatch
    metrics: GatewayMetrics

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self.metrics = GatewayMetrics()
        self.catalog = Catalog(is_complete=lambda: self.is_ready)
        self.calls: dict[Asked | Inner, Predicting] = {}
        self.inner: dict[Inner, None] = {}  # of models
        self.inner_codes: Counter[tuple[str, str]] = Counter()  # by code and detail
        self.office: Office | None = None
        self.refusals: Counter[str] = Counter()  # of jobs
        self.changed = asyncio.Event()

    @property
    def is_ready(self) -> bool:
        """Whether a load balancer sends requests here."""
        return True

    def take(self, asked: Asked) -> None:
        """A client's request has arrived."""
        ask = asked.ask
        asked.at = self.world.loop.time()
        asked.deadline = asked.at + ask.timeout_s
        model = self.world.schedule.models[ask.model]
        reader = None
        if ask.pieces:
            asked.most_s = model.stream_timeout_s
            asked.deadline = min(asked.deadline, asked.at + asked.most_s)
            reader = Reader(self, asked)
        call = self.door.enter(asked, model, reader)
        if reader is not None:
            reader.call = call
        if call is not None and call.outcome is None:
            self.calls[asked] = call
            if ask.leaves_after_s is not None:
                leave = partial(self._leave, asked, call) if reader is None else reader.leave
                self.world.loop.call_later(ask.leaves_after_s, leave)

    def answered(self, asked: Asked) -> None:
        """A client's request is answered."""
        self.calls.pop(asked, None)
        self.changed.set()
        self.world.note_answer(asked)

    def _leave(self, asked: Asked, call: Predicting) -> None:
        if call.outcome is None:
            asked.has_left, asked.left_at = True, self.world.loop.time()
            gone = GivenUp("the client has left")
            call.settle(gone)
            asked.note(gone, self.world.loop.time())
            self.answered(asked)

    def kill(self) -> None:
        super().kill()
        for inner in list(self.inner):
            inner.lose()
        for asked in self.world.ledger.asked:
            if asked.gateway == self.name and not asked.answers:
                asked.is_excused = True
        self.calls.clear()

    def _make_dispatch(self, transport: Transport) -> None:
        store = self.world.store
        far = SimulatedFarCache(store) if store is not None else None
        near = MemoryCache(max_bytes=1 << 16, clock=self.clock)
        self.dispatch = Dispatch(
            catalog=self.catalog,
            transport=transport,
            cache=LayeredCache(near, far),
            metrics=self.metrics,
            timeout_cap_s=TIMEOUT_CAP_S,
            clock=self.clock,
        )
        self.door = Door(self)

    async def _finish(self) -> None:
        """Answer what is in progress."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while self.calls:
                    self.changed.clear()
                    await self.changed.wait()


class Gateway(Front):
    """A gateway in front of the broker."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        broker = self._broker(self.metrics)
        self.watcher = Watcher(
            broker,
            queue_type="classic",
            announce=self._announce,
            forget=self._forget,
            is_blocked=lambda: self.transport.is_blocked,
            on_queue_lost=lambda target, at: self.transport.resend(target, departed_before=at),
            forget_after_s=3600.0,
        )
        self.transport = AmqpTransport(
            broker, capacity=self._capacity, on_unroutable=self.watcher.forget_asleep
        )
        self._make_dispatch(self.transport)
        if world.database is not None:
            self.office = Office(self, world.database)

    async def _run(self) -> None:
        office = self.office
        jobs = []
        if office is not None:
            self.door.take_jobs(office.open())
            jobs = office.runs()
        async with background(self.transport.run(), self.watcher.run(), *jobs):
            await self._stop.wait()
            if office is not None:
                office.is_closing = True
            await self._finish()
            if office is not None:
                await office.drain(DRAIN_S)

    @property
    def is_ready(self) -> bool:
        return self.watcher.knows_all

    def _announce(self, announcement: Announcement) -> None:
        self.catalog.announce(announcement)

    def _forget(self, target: Target) -> None:
        self.transport.forget(target)
        self.catalog.forget(target)

    def _capacity(self, target: Target) -> Capacity:
        entry = self.catalog.find(target)
        if entry is None:
            return Capacity(batch_size=1, runners=1)
        announced = entry.announcement
        return Capacity(announced.max_batch_size, announced.runners_ready)


class Worker(Part):
    """A worker of one target."""

    def __init__(self, world: World, name: str, model: Model) -> None:
        super().__init__(world, name)
        self.model = model
        self.metrics = GatewayMetrics()
        broker = self._broker(self.metrics)
        self.pooled = Pooled(self, model, announce=self._announce, may_sleep=False)
        self.pool = self.pooled.pool
        self.consumer = AmqpConsumer(
            broker,
            target=self.pool.target,
            queue_type="classic",
            prefetch=lambda: self.pool.wanted_bundles,
            submit=self.pooled.submit,
            digest=lambda: self.pool.digest,
            on_consuming=self._on_consuming,
        )
        departures = self.consumer._departures
        self._open_departures = departures.open
        departures.open = self._open_pieces  # type: ignore[method-assign]
        self.pieces: PieceSender | None = None
        self.announcer = Announcer(
            broker,
            host=name,
            queue_type="classic",
            is_consuming=lambda: self.consumer.is_consuming,
            count_waiting=self.consumer.count_waiting,
            queue_lost_s=lambda: self.consumer.queue_lost_s,
            instance_s=lambda: self.pool.instance_s,
        )

    def kill(self) -> None:
        super().kill()
        self.pooled.orphan()

    async def _run(self) -> None:
        async with self.pool, background(self.announcer.run(), self._consume_while_serving()):
            await self._stop.wait()
            await self.announcer.say_goodbye()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_S):
                    await self.consumer.linger()
                    await self.consumer.drain()

    async def _consume_while_serving(self) -> None:
        while True:
            await self.pool.wait_until(is_serving=True)
            async with background(self.consumer.run()):
                await self.pool.wait_until(is_serving=False)

    def _announce(self, announcement: Announcement) -> None:
        self.announcer.announce(announcement)

    async def _open_pieces(self, session: Session, replies: Replies) -> PieceSender:
        """Keep what sends pieces, to look at it later."""
        self.pieces = await self._open_departures(session, replies)
        return self.pieces

    def _on_consuming(self) -> None:
        self.announcer.hurry()


class Embedded(Front):
    """Gateway, pools and runners in one process."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self.transport = LocalTransport()
        self._make_dispatch(self.transport)
        self.pools = [
            Pooled(self, model, announce=self._announce, may_sleep=True)
            for model in world.schedule.models
        ]

    def kill(self) -> None:
        super().kill()
        for pooled in self.pools:
            pooled.orphan()

    async def _run(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            for pooled in self.pools:
                await stack.enter_async_context(pooled.pool)
                self.transport.connect(pooled.pool.target, pooled.submit)
            await self._stop.wait()
            await self._finish()
            for pooled in self.pools:
                pooled.pool.stop()

    def _announce(self, announcement: Announcement) -> None:
        self.catalog.announce(announcement)
