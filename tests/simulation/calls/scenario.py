"""Draws models that call each other, and who asks them. Most seeds have none.

Each has few runners, all of which are soon taken by requests that wait for another model. Now and
then they call each other in a circle: then none of them is asked.
"""

from __future__ import annotations

from random import Random

import msgspec

from tests.simulation.schedule import Ask, Model

SHARE = 0.15
LOAD_S = 5.0
FIRST_ID = 3_000_000


def draw_calls(chance: Random, number: int, *, is_embedded: bool) -> tuple[list[Model], list[Ask]]:
    """Draw models from that number on, each of which calls some that come after it."""
    if chance.random() >= SHARE:
        return [], []
    numbers = range(number, number + chance.choice((2, 3, 3)))
    names = [f"c{one}" for one in numbers]
    is_circle = chance.random() < 0.1
    models = []
    for place, one in enumerate(numbers):
        calls = [name for name in names[place + 1 :] if chance.random() < 0.7]
        calls = calls or names[place + 1 : place + 2]
        if is_circle and place == len(names) - 1:
            calls = [names[0]]
        models.append(_draw_model(chance, one, tuple(calls), is_embedded=is_embedded))
    if is_circle:
        models[0] = msgspec.structs.replace(models[0], calls=(names[-1],))
    bursts = [chance.uniform(0, LOAD_S) for _ in range(2)]
    asks = []
    for position in range(chance.choice((5, 15, 30))):
        at = chance.uniform(0, LOAD_S)
        if chance.random() < 0.7:
            at = chance.choice(bursts) + chance.expovariate(300)
        identity = FIRST_ID + position
        asks.append(
            Ask(
                at=round(at, 5),
                id=str(identity),
                nonce=identity * 100,
                model=chance.choice((numbers[0], numbers[0], *numbers)),
                gateway=chance.randrange(3),
                instances=chance.choice((1, 1, 1, 3)),
                timeout_s=chance.choice((30.0, 30.0, 2.0, 0.3)),
                priority="high" if chance.random() < 0.2 else "normal",
                leaves_after_s=chance.expovariate(20) if chance.random() < 0.1 else None,
            )
        )
    return models, asks


def _draw_model(chance: Random, number: int, calls: tuple[str, ...], *, is_embedded: bool) -> Model:
    kind = chance.choice(("", "", "async"))
    return Model(
        name=f"c{number}",
        version="1",
        number=number,
        workers=0 if is_embedded else chance.choice((1, 1, 2)),
        max_batch_size=chance.choice((1, 1, 4)),
        batch_wait_ms=0.0,
        min_runners=1,
        max_runners=chance.choice((1, 1, 2)),
        idle_s=60.0,
        scale_to_zero=False,
        cache_ttl_s=0.0,
        timeout_s=30.0,
        max_in_flight=1000,
        load_timeout_s=3.0,
        load_s=0.1,
        base_ms=chance.choice((1.0, 5.0, 20.0, 80.0)),
        each_ms=0.1,
        kind="async" if kind else "",
        concurrency=chance.choice((1, 2, 8)) if kind else 0,
        calls=calls,
    )
