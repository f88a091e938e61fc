"""The product's parts, put together as ``modelyard.compose`` does: a gateway, a worker, and all in
one process. Each is a simulated process; ``kill`` ends it without a word, ``stop`` as SIGTERM does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

from modelyard.caches.layered import LayeredCache
from modelyard.caches.memory import MemoryCache
from modelyard.core.call import Call
from modelyard.core.errors import GivenUp, RequestError
from modelyard.core.manifest import Batching, Cache, Limits, Manifest, Scaling
from modelyard.core.messages import Announcement
from modelyard.core.names import Target
from modelyard.dispatch import dispatch
from modelyard.dispatch.catalog import Catalog
from modelyard.dispatch.dispatch import ClientCall, Dispatch
from modelyard.pool.pool import Pool
from modelyard.transports.amqp.address import Address
from modelyard.transports.amqp.announcer import Announcer
from modelyard.transports.amqp.consumer import AmqpConsumer
from modelyard.transports.amqp.lanes import Capacity
from modelyard.transports.amqp.session import Broker
from modelyard.transports.amqp.transport import AmqpTransport
from modelyard.transports.amqp.watcher import Watcher
from modelyard.transports.local import LocalTransport
from tests.simulation.cache import SimulatedFarCache
from tests.simulation.ledger import Asked, GatewayMetrics, PoolCounts
from tests.simulation.loop import Process
from tests.simulation.runners import Instance, Launcher, SimulatedRunner, encode_input
from tests.simulation.schedule import Model

if TYPE_CHECKING:
    from tests.simulation.world import World

PORT = 5672
EPOCH = 1_700_000_000.0
DRAIN_S = 30.0
TIMEOUT_CAP_S = 300.0


def manifest_of(model: Model) -> Manifest:
    """Give the ``model.toml`` of a model."""
    return Manifest(
        name=model.name,
        version=model.version,
        class_="model:Model",
        cache=Cache(ttl_s=model.cache_ttl_s),
        batching=Batching(
            max_batch_size=model.max_batch_size, batch_wait_ms=model.batch_wait_ms
        ),
        limits=Limits(
            timeout_s=model.timeout_s,
            max_in_flight=model.max_in_flight,
            load_timeout_s=model.load_timeout_s,
        ),
        scaling=Scaling(
            min_runners=model.min_runners,
            max_runners=model.max_runners,
            idle_s=model.idle_s,
            scale_to_zero=model.scale_to_zero,
        ),
    )


@contextlib.asynccontextmanager
async def background(*runs: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run ``runs`` as long as the block; should one fail, the block is cancelled."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(run) for run in runs]
        yield
        for task in tasks:
            task.cancel()


class Part:
    """A simulated process of the product.

    Args:
        world: Where it lives.
        name: Its own; no other process had it before.
    """

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.process = Process(name, world.loop)
        self.chance = world.chance(name)
        self._offset = self.chance.uniform(0.0, 1e5)  # since its machine was started
        self._skew = self.chance.uniform(-1.0, 1.0) * world.schedule.skew_s
        self._stop = asyncio.Event()
        self.is_stopping = False
        self.done: asyncio.Task[None] | None = None

    @property
    def is_up(self) -> bool:
        """Whether it is alive, and not about to leave."""
        return self.process.state == "up" and not self.is_stopping

    def clock(self) -> float:
        """Give the reading of its monotonic clock."""
        return self.world.loop.time() + self._offset

    def wall_clock(self) -> float:
        """Give the time of the day, as it has it."""
        return self.world.loop.time() + EPOCH + self._skew

    def start(self) -> None:
        """Start it."""
        self.done = self.process.spawn(self._run())

    def stop(self) -> None:
        """Tell it to stop, in good order."""
        self.is_stopping = True
        self.process.soon(self._stop.set)

    def kill(self) -> None:
        """End it now."""
        self.process.kill()
        self.world.network.forget(self.process)

    async def _run(self) -> None:
        raise NotImplementedError

    def _broker(self, metrics: GatewayMetrics) -> Broker:
        return Broker(
            addresses=[Address("rabbit", PORT, "guest", "guest", "/", None)],
            owner=self.name,
            metrics=metrics,
            clock=self.clock,
            wall_clock=self.wall_clock,
            chance=Random(self.chance.random()),
        )


class Front(Part):
    """Whatever takes requests."""

    catalog: Catalog
    dispatch: Dispatch
    metrics: GatewayMetrics

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self.metrics = GatewayMetrics()
        self.catalog = Catalog()
        self.calls: dict[Asked, ClientCall] = {}
        self.refused_expired = 0

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
        call = enter(self, asked, model)
        if call is not None and not call.is_settled:
            self.calls[asked] = call
            if ask.leaves_after_s is not None:
                self.world.loop.call_later(ask.leaves_after_s, self._leave, asked, call)

    def answered(self, asked: Asked, call: ClientCall) -> None:
        """A client's request is answered."""
        self.calls.pop(asked, None)
        asked.answered(call, self.world.loop.time())
        self.world.note_answer(asked)

    def _leave(self, asked: Asked, call: ClientCall) -> None:
        if not call.is_settled:
            asked.has_left = True
            call.settle(GivenUp("the client has left"))

    def kill(self) -> None:
        super().kill()
        for asked in self.calls:
            asked.is_excused = True
        self.calls.clear()

    def _make_dispatch(self, transport: dispatch.Transport) -> None:
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

    async def _finish(self) -> None:
        """Answer what is under way."""
        give_up = self.world.loop.time() + DRAIN_S
        while self.calls and self.world.loop.time() < give_up:
            await asyncio.sleep(0.01)


def enter(front: Front, asked: Asked, model: Model) -> ClientCall | None:
    """Hand a request to the product: the one place that knows how."""
    ask = asked.ask
    nonces = range(ask.nonce, ask.nonce + ask.instances)
    rows: list[Instance] = [(nonce, ask.act, ask.work_ms) for nonce in nonces]
    question = dispatch.Ask(
        model_name=model.name,
        input_data=msgspec.Raw(encode_input(rows, ask.form)),
        model_version=model.version,
        timeout_s=ask.timeout_s,
        priority=ask.priority,
    )
    try:
        return front.dispatch.start(
            question,
            partial(front.answered, asked),
            request_id=ask.id,
            form=ask.form,
            is_bypass=ask.is_bypass,
        )
    except RequestError as error:
        asked.note(error, front.world.loop.time())
        front.world.note_answer(asked)
        return None


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

    async def _run(self) -> None:
        async with background(self.transport.run(), self.watcher.run()):
            await self._stop.wait()
            await self._finish()

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


class Pooled:
    """A pool, its simulated runners, and what they report."""

    def __init__(
        self,
        part: Part,
        model: Model,
        *,
        announce: Callable[[Announcement], None],
        may_sleep: bool,
    ) -> None:
        world = part.world
        self.model = model
        self.life = f"{part.name}:{model.name}"
        self.part = part
        self.counts = PoolCounts()
        self.ledger = world.ledger
        self.launcher = Launcher(
            world.loop,
            part.process,
            model,
            ledger=world.ledger,
            chance=Random(part.chance.random()),
            life=self.life,
            clock=part.clock,
            on_batch=lambda batch: world.checks.on_batch(self, batch),
            on_handed=self._on_handed,
        )
        self.pool = Pool(
            folder=Path("/nowhere"),
            manifest=manifest_of(model),
            metrics=self.counts,
            announce=announce,
            launch=self.launcher,
            clock=part.clock,
            may_sleep=may_sleep,
        )

    def _on_handed(self, runner: SimulatedRunner) -> None:
        """Have the calls checked that a runner is handed."""
        for slot in self.pool._runners.slots:
            if slot._runner is runner:
                self.part.world.checks.on_handed(self, slot.ahead or slot.batch)

    def submit(self, call: Call, *, is_suspect: bool = False) -> None:
        """Pass a call on to the pool, and count it."""
        self.ledger.submissions[self.life, call.request.id] += 1
        self.pool.submit(call, is_suspect=is_suspect)

    def orphan(self) -> None:
        """End the runners with their parent."""
        for runner in self.launcher.runners:
            runner.orphaned()


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
            on_consuming=lambda: self.announcer.hurry(),
        )
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


def state_of(part: Part) -> dict[str, Any]:
    """Give what a part holds, for the log."""
    if isinstance(part, Gateway):
        return {"pending": part.transport.pending, "connected": part.transport.is_connected}
    if isinstance(part, Worker):
        return {"consuming": part.consumer.is_consuming, "state": part.pool._runners.state}
    return {}
