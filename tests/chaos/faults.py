"""The faults: each is active as long as its ``with`` block, and healed at its end.

A name is what the table and the plot show; numbers are the rows of the table of faults in
``docs/reliability.md``.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Literal, NamedTuple

import psutil

from tests.chaos.fleet import Fleet, family_of
from tests.support.proxy import Proxy
from tests.support.server import PATIENCE_S, frozen, wait_for_the_end_of

# In the order in which several are injected. They are healed in the opposite one: a worker cannot
# come back before the broker does.
Place = Literal["worker", "gateway", "redis", "broker", "network"]
PLACES: tuple[Place, ...] = ("worker", "gateway", "redis", "broker", "network")

Inject = Callable[[Fleet, int], AbstractContextManager[None]]


class Fault(NamedTuple):
    """Where a fault happens, how long it is held (seconds, from … to), and how it is made."""

    place: Place
    hold_s: tuple[float, float]
    inject: Inject


_DELETE_QUEUES = """\
[rabbit_amqqueue:delete(Queue, false, false, <<"chaos">>)
 || Queue <- rabbit_amqqueue:list(),
    {resource, _, queue, Name} <- [amqqueue:get_name(Queue)],
    string:prefix(Name, <<"%s">>) =/= nomatch].
"""

FAULTS: dict[str, Fault] = {}


def fault(place: Place, least_s: float, most_s: float) -> Callable[[Inject], Inject]:
    """Put a fault into ``FAULTS``."""

    def register(inject: Inject) -> Inject:
        name = getattr(inject, "__name__", "")
        FAULTS[name] = Fault(place, (least_s, most_s), inject)
        return inject

    return register


# Workers.


@fault("worker", 0, 1)
@contextlib.contextmanager
def kill_runner(fleet: Fleet, victim: int) -> Iterator[None]:
    """1: a runner is killed."""
    for runner in fleet.workers[victim % len(fleet.workers)].runners():
        with contextlib.suppress(psutil.NoSuchProcess):
            runner.kill()
    yield


@fault("worker", 0, 4)
@contextlib.contextmanager
def kill_worker(fleet: Fleet, victim: int) -> Iterator[None]:
    """5: a worker and its runners are killed; another one is started."""
    number = _mortal(victim, len(fleet.workers))
    family = family_of(fleet.workers[number])
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    fleet.workers[number].process.wait()
    yield
    wait_for_the_end_of(family[1:])
    fleet.replace_worker(number)


@fault("worker", 0, 4)
@contextlib.contextmanager
def stop_worker(fleet: Fleet, victim: int) -> Iterator[None]:
    """6: a worker is told to stop; another one is started."""
    number = _mortal(victim, len(fleet.workers))
    fleet.workers[number].process.send_signal(signal.SIGTERM)
    yield
    fleet.workers[number].process.wait(PATIENCE_S)  # a second signal would hurry it
    fleet.replace_worker(number)


@fault("worker", 1, 15)
@contextlib.contextmanager
def freeze_worker(fleet: Fleet, victim: int) -> Iterator[None]:
    """7: a worker and its runners are frozen."""
    family = family_of(fleet.workers[victim % len(fleet.workers)])
    with frozen(*family):
        yield


# Gateways.


@fault("gateway", 0, 4)
@contextlib.contextmanager
def stop_gateway(fleet: Fleet, victim: int) -> Iterator[None]:
    """10: a gateway is told to stop while another is up; a new one is started."""
    number = _mortal(victim, len(fleet.gateways))
    door = fleet.doors[number]
    door.closing_at = time.monotonic()
    fleet.gateways[number].process.send_signal(signal.SIGTERM)
    yield
    fleet.gateways[number].process.wait(PATIENCE_S)
    door.is_gone = True
    fleet.replace_gateway(number)


# Redis.


@fault("redis", 0.5, 5)
@contextlib.contextmanager
def kill_redis(fleet: Fleet, _: int) -> Iterator[None]:
    """23: Redis is killed, and comes back empty."""
    fleet.redis.kill()
    try:
        yield
    finally:
        fleet.redis.start()


@fault("redis", 0.5, 5)
@contextlib.contextmanager
def freeze_redis(fleet: Fleet, _: int) -> Iterator[None]:
    """23: Redis is frozen."""
    with fleet.redis.frozen():
        yield


# The broker.


@fault("broker", 0, 5)
@contextlib.contextmanager
def stop_app(fleet: Fleet, _: int) -> Iterator[None]:
    """12: the broker is told to stop, and started."""
    fleet.broker.control("stop_app")
    try:
        yield
    finally:
        fleet.broker.control("start_app")


@fault("broker", 0, 5)
@contextlib.contextmanager
def kill_broker(fleet: Fleet, _: int) -> Iterator[None]:
    """13: the broker is killed, and started."""
    fleet.broker.kill()
    try:
        yield
    finally:
        fleet.broker.start()


@fault("broker", 1, 15)
@contextlib.contextmanager
def freeze_broker(fleet: Fleet, _: int) -> Iterator[None]:
    """14: the broker is frozen."""
    with fleet.broker.frozen():
        yield


@fault("broker", 1, 8)
@contextlib.contextmanager
def memory_alarm(fleet: Fleet, _: int) -> Iterator[None]:
    """15: the broker takes no messages."""
    fleet.broker.control("set_vm_memory_high_watermark", "0.0001")
    try:
        yield
    finally:
        fleet.broker.control("set_vm_memory_high_watermark", "absolute", "1GB")


@fault("broker", 0, 1)
@contextlib.contextmanager
def delete_requests(fleet: Fleet, _: int) -> Iterator[None]:
    """16: the model's queues are deleted, with what is in them."""
    _delete_queues(fleet, "infer.")
    yield


@fault("broker", 0, 1)
@contextlib.contextmanager
def delete_replies(fleet: Fleet, _: int) -> Iterator[None]:
    """20: the gateways' reply queues are deleted."""
    _delete_queues(fleet, "replies.")
    yield


@fault("broker", 0, 1)
@contextlib.contextmanager
def delete_catalogs(fleet: Fleet, _: int) -> Iterator[None]:
    """20: the queues from which the gateways learn of workers are deleted."""
    _delete_queues(fleet, "catalog.")
    yield


# The network, either of the gateways or of the workers.


@fault("network", 0, 0)
@contextlib.contextmanager
def reset_connections(fleet: Fleet, victim: int) -> Iterator[None]:
    """21: all connections are reset."""
    _way(fleet, victim).reset()
    yield


@fault("network", 0.5, 6)
@contextlib.contextmanager
def refuse_connections(fleet: Fleet, victim: int) -> Iterator[None]:
    """21: all connections are reset, and new ones refused."""
    proxy = _way(fleet, victim)
    with _healed(proxy):
        proxy.refuse()
        proxy.reset()
        yield


@fault("network", 0.5, 12)
@contextlib.contextmanager
def drop_bytes(fleet: Fleet, victim: int) -> Iterator[None]:
    """21: bytes vanish, on one way or on both; connections stay up."""
    proxy = _way(fleet, victim)
    ways = ([proxy.to_server], [proxy.to_client], [proxy.to_server, proxy.to_client])
    with _healed(proxy):
        for way in ways[victim % 3]:
            way.is_dropping = True
        yield


@fault("network", 1, 8)
@contextlib.contextmanager
def delay_bytes(fleet: Fleet, victim: int) -> Iterator[None]:
    """21: everything takes longer."""
    proxy = _way(fleet, victim)
    with _healed(proxy):
        proxy.to_server.delay_s = proxy.to_client.delay_s = 0.02 * (1 + victim % 10)
        yield


@fault("network", 0.5, 1)
@contextlib.contextmanager
def cut_connection(fleet: Fleet, victim: int) -> Iterator[None]:
    """8, 21: a connection is cut in the middle of what it carries."""
    proxy = _way(fleet, victim)
    with _healed(proxy):
        proxy.to_server.cut_after(200 + victim % 1000)
        proxy.to_client.cut_after(200 + victim % 1000)
        yield


@fault("network", 0.5, 1)
@contextlib.contextmanager
def corrupt_bytes(fleet: Fleet, victim: int) -> Iterator[None]:
    """21: a byte is damaged, in a few places. The connections end with the fault.

    What TCP hands over is never damaged, and an ack may have become one of another message, which
    then stays unacked for as long as its connection lasts.
    """
    proxy = _way(fleet, victim)
    with _healed(proxy):
        proxy.to_server.corrupt(3)
        proxy.to_client.corrupt(3)
        yield
    proxy.reset()


def _mortal(victim: int, number: int) -> int:
    return 1 + victim % (number - 1)


def _way(fleet: Fleet, victim: int) -> Proxy:
    return fleet.to_broker[victim % len(fleet.to_broker)]


def _delete_queues(fleet: Fleet, prefix: str) -> None:
    """Delete all at once: each call of rabbitmqctl takes seconds."""
    fleet.broker.control("eval", _DELETE_QUEUES % prefix)


@contextlib.contextmanager
def _healed(proxy: Proxy) -> Iterator[None]:
    try:
        yield
    finally:
        proxy.heal()
