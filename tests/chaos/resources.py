"""What the processes hold while nothing happens: what was there before must be there after.

Flat means, for what can be counted: after at most ``SETTLE_S`` of quiet as many as before the first
fault: connections to the broker, channels, queues, consumers, messages in queues (but for the cards
that gateways keep there, and tidy up once an hour), ready processes, runners, requests in flight,
open descriptors. A gateway may hold 16 descriptors more: its pool of connections to Redis is filled
when there is need, and keeps those that died until it needs them; so is that of its store, which
keeps five, of two files each with SQLite.

Resident memory is judged of our processes that lived through six samples or more: the median of the
last third of its samples may be above that of the middle third by a tenth, or by 5 MiB if that is
more. The first third is for warming up.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from threading import Event

import httpx
import msgspec
import psutil

from tests.chaos.fleet import Fleet, family_of

SETTLE_S = 20.0
SAMPLES_TO_JUDGE = 6
REDIS_CONNECTIONS = 8
STORE_FILES = 2 * 4  # beside those of the first connection
MEMORY_GROWTH = 0.1
MEMORY_GROWTH_BYTES = 5 << 20

_COUNT_IN_BROKER = """\
Queues = rabbit_amqqueue:list(),
[length(rabbit_networking:connections()), length(rabbit_channel:list()), length(Queues),
 lists:sum([Count || Q <- Queues, {consumers, Count} <- rabbit_amqqueue:info(Q, [consumers])]),
 lists:sum([Count || Q <- Queues,
   [{name, {resource, _, _, Name}}, {messages, Count}]
     <- [rabbit_amqqueue:info(Q, [name, messages])],
   binary:match(Name, <<"modelyard.cards.">>) =/= {0, 16}])].
"""


class Sample(msgspec.Struct, frozen=True):
    """What was held at a quiet moment. ``rss_bytes`` is by process, with its id."""

    at_s: float
    counts: dict[str, int]
    rss_bytes: dict[str, int]


class Resources:
    """Takes samples while the load pauses, and judges them."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.samples: list[Sample] = []

    def sample(self) -> None:
        """Wait until all is as it was at the first time, and note what is."""
        expected = self.samples[0].counts if self.samples else None
        counts = _settle(self._count_in_members, expected)
        counts |= _settle(self._count_in_broker, expected)
        ledger = self._fleet.ledger
        self.samples.append(Sample(ledger.now_s, counts, _memory_of(self._fleet)))
        for name, number in counts.items():
            before = expected[name] if expected else _at_first(name, number)
            if not is_flat(name, before, number):
                ledger.violate("leak", f"{name}: {before} before, {number} now")

    def judge_memory(self) -> dict[str, float]:
        """Note the processes that grow; gives the growth of those judged, in MiB per hour."""
        series: dict[str, list[tuple[float, int]]] = defaultdict(list)
        for sample in self.samples:
            for name, size in sample.rss_bytes.items():
                series[name].append((sample.at_s, size))
        growth = {}
        for name, points in series.items():
            if len(points) < SAMPLES_TO_JUDGE:
                continue
            growth[name] = _mib_per_hour(points)
            if grows([size for _, size in points]):
                grown = f"{points[0][1] >> 20} to {points[-1][1] >> 20} MiB"
                self._fleet.ledger.violate("leak", f"memory of {name}: {grown}")
        return growth

    def _count_in_members(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for name, member in self._fleet.members.items():
            try:
                is_ready = member.http.get("/readyz").status_code == 200
            except httpx.TransportError:  # it has just ended
                return counts | {f"{name}: ready": 0}
            counts[f"{name}: ready"] = int(is_ready)
            counts[f"{name}: descriptors"] = psutil.Process(member.process.pid).num_fds()
            counts[f"{name}: runners"] = len(member.runners())
            if name.startswith("gateway"):
                in_flight = member.metric("modelyard_in_flight")
                counts[f"{name}: requests in flight"] = int(in_flight)
        return counts

    def _count_in_broker(self) -> dict[str, int]:
        """Ask once for all: each call of rabbitmqctl starts a machine of its own."""
        counts = json.loads(self._fleet.broker.control("eval", _COUNT_IN_BROKER))
        names = ("connections", "channels", "queues", "consumers", "messages")
        return {f"broker: {name}": count for name, count in zip(names, counts, strict=True)}


def is_flat(name: str, before: int, number: int) -> bool:
    """Tell whether there are as many as there should be."""
    if name.startswith("gateway") and name.endswith("descriptors"):
        return number <= before + REDIS_CONNECTIONS + STORE_FILES
    return number == before


def grows(sizes: list[int]) -> bool:
    """Tell whether memory is not flat; see above."""
    third = len(sizes) // 3
    middle = statistics.median(sizes[third : 2 * third])
    last = statistics.median(sizes[-third:])
    return last - middle > max(MEMORY_GROWTH * middle, MEMORY_GROWTH_BYTES)


def _settle(count: Callable[[], dict[str, int]], expected: dict[str, int] | None) -> dict[str, int]:
    """Count until all is as expected, or time is up. The first time: until it stays as it is."""
    give_up, counts = time.monotonic() + SETTLE_S, count()
    while time.monotonic() < give_up:
        if expected and all(is_flat(name, expected[name], counts[name]) for name in counts):
            break
        Event().wait(0.5)
        before, counts = counts, count()
        if expected is None and counts == before:
            break
    return counts


def _at_first(name: str, number: int) -> int:
    """Give what the first sample should have had."""
    return 0 if name.endswith(("in flight", "messages")) else number


def _memory_of(fleet: Fleet) -> dict[str, int]:
    sizes = {}
    for name, member in fleet.members.items():
        for number, process in enumerate(family_of(member)):
            title = f"{name} runner" if number else name
            with contextlib.suppress(psutil.NoSuchProcess):
                sizes[f"{title} ({process.pid})"] = int(process.memory_info().rss)
    return sizes


def _mib_per_hour(points: list[tuple[float, int]]) -> float:
    """Give the slope by Theil and Sen: the median over all pairs, which outliers do not move."""
    slopes = [
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for number, earlier in enumerate(points)
        for later in points[number + 1 :]
    ]
    return round(statistics.median(slopes) * 3600 / 2**20, 1)
