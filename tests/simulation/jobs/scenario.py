"""Draws jobs, and what happens to their database. Most seeds have none."""

from __future__ import annotations

from random import Random

from tests.simulation.schedule import Act, Event, Fault, FaultKind, JobAsk, Model

SHARE = 0.2
LOAD_S = 5.0
LONG_MS = 10_000.0
FIRST_ID = 2_000_000
DATABASE_FAULTS: tuple[FaultKind, ...] = ("database_away", "database_dumb")


def draw_jobs(
    chance: Random, number: int, *, is_embedded: bool, has_faults: bool
) -> tuple[list[Model], list[Event]]:
    """Draw the model, which is the one of that number, and its jobs; both empty for none."""
    if chance.random() >= SHARE or is_embedded:
        return [], []
    model = Model(
        name=f"j{number}",
        version="1",
        number=number,
        workers=chance.choice((1, 1, 2)),
        max_batch_size=chance.choice((1, 2, 8)),
        batch_wait_ms=0.0,
        min_runners=1,
        max_runners=1,
        idle_s=60.0,
        scale_to_zero=False,
        cache_ttl_s=0.0,
        timeout_s=30.0,
        max_in_flight=chance.choice((1000, 4)),
        load_timeout_s=3.0,
        load_s=0.1,
        base_ms=chance.choice((3.0, 20.0, 200.0)),
        each_ms=0.5,
    )
    events: list[Event] = _draw_asks(chance, model)
    if has_faults and chance.random() < 0.6:
        events += [_draw_fault(chance) for _ in range(chance.choice((1, 2)))]
    is_long = any(isinstance(event, JobAsk) and event.work_ms > LONG_MS for event in events)
    if is_long and has_faults and chance.random() < 0.5:  # it stops before that is done
        events.append(Fault(at=LOAD_S, kind="stop_gateway", whose=chance.randrange(3)))
    return [model], events


def _draw_fault(chance: Random) -> Fault:
    return Fault(
        at=round(chance.uniform(0.0, LOAD_S), 5),
        kind=chance.choice(DATABASE_FAULTS),
        lasts_s=chance.choice((0.05, 0.5, 3.0, 40.0)),
    )


def _draw_asks(chance: Random, model: Model) -> list[Event]:
    has_odd, timeout_s = chance.random() < 0.5, 30.0
    long = chance.randrange(20) if model.max_batch_size == 1 else -1
    if 0 <= long < 8:
        timeout_s = 110.0  # also of those that wait behind it
    burst = chance.uniform(0, LOAD_S)
    asks: list[Event] = []
    for position in range(chance.choice((2, 8, 20))):
        at = burst + chance.expovariate(300) if chance.random() < 0.5 else chance.uniform(0, LOAD_S)
        act: Act = ""
        if has_odd and chance.random() < 0.15:
            act = chance.choice(("raise", "refuse", "exit"))
        work_ms = chance.choice((0.0, 0.0, 30.0, 1500.0))
        if position == long:
            act, work_ms = "", 45_000.0
        identity = FIRST_ID + position
        asks.append(
            JobAsk(
                at=round(at, 5),
                id=str(identity),
                nonce=identity * 100,
                model=model.number,
                gateway=chance.randrange(3),
                act=act,
                work_ms=work_ms,
                timeout_s=timeout_s,
                priority=chance.choice((0, 0, 10, -10)),
                delay_s=chance.choice((0.0, 0.0, 0.0, 3.0)),
                expires_s=chance.choice((None, None, None, 4.0)),
                max_attempts=chance.choice((None, None, 1, 2)),
                cancel_after_s=chance.expovariate(1.0) if chance.random() < 0.2 else None,
            )
        )
    return asks
