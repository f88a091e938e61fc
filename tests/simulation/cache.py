"""A cache that gateways share, which is slow, away, full or damaged when told so."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random

from modelyard.caches.layered import Then
from tests.simulation.loop import PROCESS, VirtualLoop

DEADLINE_S = 0.1  # what the real one keeps to, whatever happens


class SimulatedStore:
    """What all gateways share."""

    def __init__(self, loop: VirtualLoop, chance: Random) -> None:
        self.loop = loop
        self.chance = chance
        self.values: dict[bytes, tuple[float, bytes]] = {}
        self.is_slow = self.is_away = self.is_full = self.is_damaged = False


class SimulatedFarCache:
    """One gateway's way to it; see ``caches.layered.FarCache``."""

    def __init__(self, store: SimulatedStore) -> None:
        self._store = store

    def get(self, key: bytes, then: Then) -> None:
        """Give the value of ``key``, soon or at the deadline."""
        store = self._store
        if store.is_away:
            then(None)
            return
        delay_s = store.chance.uniform(0.0002, 0.001)
        if store.is_slow:
            delay_s = store.chance.uniform(0.0, DEADLINE_S * 1.3)
        self._later(min(delay_s, DEADLINE_S), partial(self._answer, key, then, delay_s))

    def _answer(self, key: bytes, then: Then, delay_s: float) -> None:
        store = self._store
        expires, value = store.values.get(key, (0.0, b""))
        is_known = expires > store.loop.time() and delay_s < DEADLINE_S
        is_good = not (store.is_damaged and store.chance.random() < 0.5)  # else its check fails
        then(value if is_known and is_good else None)

    def put(self, key: bytes, value: bytes, *, ttl_s: float) -> None:
        """Keep a value."""
        store = self._store
        if not (store.is_away or store.is_full):
            until = store.loop.time() + ttl_s
            self._later(0.0005, partial(store.values.__setitem__, key, (until, value)))

    def _later(self, delay_s: float, callback: Callable[[], None]) -> None:
        process = PROCESS.get()
        context = process.context if process is not None else None
        self._store.loop.call_later(delay_s, callback, context=context)
