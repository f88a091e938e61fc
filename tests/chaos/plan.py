"""What will happen: the same seed, the same faults in the same order."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import count
from random import Random
from typing import NamedTuple

from tests.chaos.faults import FAULTS, PLACES

TWO_SHARE = 0.25  # of the steps have two faults at once, in different places


class Planned(NamedTuple):
    """A fault to come. ``victim`` chooses among those it can befall."""

    name: str
    victim: int


class Step(NamedTuple):
    """Faults that are active together, and the pause after they are healed (seconds)."""

    faults: tuple[Planned, ...]
    hold_s: float
    pause_s: float

    @property
    def name(self) -> str:
        """What the tables show."""
        return " + ".join(planned.name for planned in self.faults)


def make_plan(seed: int, names: Collection[str] = ()) -> Iterator[Step]:
    """Give steps without end. Each round has every fault once, in another order.

    Args:
        seed: Of all that is drawn.
        names: Of ``FAULTS``; all of them if there are none.
    """
    random = Random(seed)
    for _ in count():
        deck = [name for name in FAULTS if name in names or not names]
        random.shuffle(deck)
        while deck:
            chosen = [deck.pop()]
            if random.random() < TWO_SHARE:
                chosen += _another(deck, chosen[0])
            chosen.sort(key=lambda name: PLACES.index(FAULTS[name].place))
            least_s, most_s = zip(*(FAULTS[name].hold_s for name in chosen), strict=True)
            yield Step(
                tuple(Planned(name, random.randrange(1 << 16)) for name in chosen),
                hold_s=round(random.uniform(max(least_s), max(most_s)), 2),
                pause_s=round(random.uniform(1, 4), 2),
            )


def _another(deck: list[str], first: str) -> list[str]:
    """Take the next fault from the deck that is in another place, if there is one."""
    for name in reversed(deck):
        if FAULTS[name].place != FAULTS[first].place:
            deck.remove(name)
            return [name]
    return []
