"""Draws a model that gives pieces, and who asks it. Most seeds have none."""

from __future__ import annotations

from random import Random

from tests.simulation.schedule import Act, Ask, Model

SHARE = 0.3
LOAD_S = 5.0
FIRST_ID = 1_000_000
LONGEST_S = 4.0


def draw_streams(
    chance: Random, number: int, *, is_embedded: bool
) -> tuple[list[Model], list[Ask]]:
    """Draw the model, which is the one of that number, and its asks; both empty for none."""
    if chance.random() >= SHARE:
        return [], []
    max_runners = chance.choice((1, 1, 2))
    model = Model(
        name=f"s{number}",
        version="1",
        number=number,
        workers=0 if is_embedded else chance.choice((1, 1, 2, 3)),
        max_batch_size=chance.choice((1, 4)),
        batch_wait_ms=0.0,
        min_runners=chance.randint(1, max_runners),
        max_runners=max_runners,
        idle_s=60.0,
        scale_to_zero=False,
        cache_ttl_s=0.0,
        timeout_s=30.0,
        max_in_flight=1000,
        load_timeout_s=3.0,
        load_s=chance.choice((0.05, 0.3)),
        base_ms=chance.choice((1.0, 10.0, 50.0)),
        each_ms=0.1,
        kind=chance.choice(("async", "async", "generator", "engine")),
        concurrency=chance.choice((1, 2, 4, 16)),
        piece_timeout_s=chance.choice((1.0, 10.0, 30.0)),
        stream_timeout_s=chance.choice((4.0, 60.0, 60.0)),
    )
    asks = _draw_asks(chance, model)
    return [model], asks


def _draw_asks(chance: Random, model: Model) -> list[Ask]:
    places = max(1, model.workers) * model.min_runners * model.concurrency
    busy_s, most_s = 0.0, 0.5 * LOAD_S * places  # so that not many wait until they are late
    has_odd, has_slow = chance.random() < 0.4, chance.random() < 0.4
    bursts = [chance.uniform(0, LOAD_S) for _ in range(3)]
    asks: list[Ask] = []
    for position in range(chance.choice((3, 10, 25))):
        at = chance.uniform(0, LOAD_S)
        if chance.random() < 0.4:
            at = chance.choice(bursts) + chance.expovariate(300)
        ask = _draw_ask(chance, model, FIRST_ID + position, at, has_odd=has_odd, has_slow=has_slow)
        slowest_ms = max(ask.piece_ms, 1000 / ask.reads_per_s if ask.reads_per_s else 0.0)
        busy_s += (ask.pieces * slowest_ms + model.base_ms) / 1000
        if busy_s > most_s and asks:
            break
        asks.append(ask)
    return asks


def _draw_ask(
    chance: Random, model: Model, number: int, at: float, *, has_odd: bool, has_slow: bool
) -> Ask:
    pieces = chance.choice((0, 1, 3, 10, 40, 70, 150))
    piece_ms = chance.choice((0.0, 1.0, 10.0, 40.0))
    reads_per_s, stops_at = 0.0, None
    if has_slow and pieces and chance.random() < 0.3:
        reads_per_s = chance.choice((30.0, 100.0, 500.0))
        if chance.random() < 0.2:
            stops_at = chance.randrange(pieces)
    if pieces:
        most = int(LONGEST_S / (piece_ms / 1000 + (1 / reads_per_s if reads_per_s else 1e-6)))
        pieces = min(pieces, most)
    act: Act = ""
    if has_odd and chance.random() < 0.15:
        act = chance.choice(("raise", "refuse", "exit", "oom", "hang"))
    timeout_s = chance.choice((30.0, 30.0, 12.0, 2.0))
    if act == "hang":
        timeout_s = chance.choice((0.3, 1.0))
    return Ask(
        at=round(at, 5),
        id=str(number),
        nonce=number * 100,
        model=model.number,
        gateway=chance.randrange(3),
        act=act,
        work_ms=chance.choice((0.0, 0.0, 30.0)),
        timeout_s=timeout_s,
        priority="high" if chance.random() < 0.2 else "normal",
        leaves_after_s=chance.expovariate(4) if chance.random() < 0.2 else None,
        pieces=pieces,
        breaks_at=chance.choice((0, chance.randrange(pieces))) if pieces else 0,
        piece_ms=piece_ms,
        reads_per_s=reads_per_s,
        stops_at=stops_at,
    )
