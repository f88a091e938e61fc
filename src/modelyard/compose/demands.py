"""Measures a gateway's share of the demand for each target."""

from __future__ import annotations

import asyncio

import msgspec

from modelyard.core.clock import Clock, WallClock
from modelyard.core.demand import LEAST, Demand, Meter, Sample
from modelyard.core.names import Target
from modelyard.dispatch.catalog import Catalog
from modelyard.transports.amqp.transport import AmqpTransport
from modelyard.transports.amqp.watcher import Watcher

EVERY_S = 1.0


class Demands:
    """Samples what is asked for once a second.

    Args:
        catalog: Of the targets.
        transport: Counts what goes to the workers.
        watcher: Knows what an instance takes.
        clock: Of the samples.
        wall_clock: Unix time, in seconds.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        transport: AmqpTransport,
        watcher: Watcher,
        clock: Clock,
        wall_clock: WallClock,
    ) -> None:
        self._catalog = catalog
        self._transport = transport
        self._watcher = watcher
        self._clock = clock
        self._wall_clock = wall_clock
        self._meters: dict[Target, Meter] = {}

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            self._sample()
            await asyncio.sleep(EVERY_S)

    def of(self, target: Target) -> Demand:
        """Return the demand for a target. One that is kept warm wants as many runners as the
        version that most is asked of, to take its place at once.
        """
        demand = self._asked_of(target)
        if not self._catalog.router.snapshot.is_warm(target, now=self._wall_clock()):
            return demand
        others = (self._asked_of(entry.target) for entry in self._catalog.versions(target.name))
        runners = max((one.runners for one in others), default=0.0)
        return msgspec.structs.replace(demand, runners=max(runners, LEAST))

    def _asked_of(self, target: Target) -> Demand:
        entry, meter = self._catalog.find(target), self._meters.get(target)
        known = self._watcher.known(target)
        instance_s = known.instance_s if known else 0.0
        target_wait_s = entry.announcement.target_wait_s if entry else 1.0
        runners = meter.runners(instance_s, target_wait_s=target_wait_s) if meter else 0.0
        in_flight = self._transport.in_flight().get(target, 0)
        return Demand(runners, in_flight, instance_s, target_wait_s)

    def _sample(self) -> None:
        now, in_flight = self._clock(), self._transport.in_flight()
        entries = {entry.target: entry for entry in self._catalog.entries()}
        for target in self._meters.keys() - entries.keys():
            del self._meters[target]
        for target, entry in entries.items():
            meter = self._meters.get(target)
            if meter is None:
                meter = self._meters[target] = Meter()
            asked, requests = self._transport.asked(target)
            # What was refused is asked for as well; it was never counted how much it held.
            refused = entry.refused * (asked / requests if requests else 1.0)
            count = in_flight.get(target, 0)
            meter.add(Sample(now, asked + refused, requests + entry.refused, count))
