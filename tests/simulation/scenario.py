"""Draws a schedule from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from tests.simulation.calls.scenario import draw_calls
from tests.simulation.jobs.scenario import draw_jobs
from tests.simulation.schedule import Act, Ask, Event, Fault, FaultKind, Model, Schedule
from tests.simulation.streams.scenario import draw_streams

LOAD_S = 5.0
RUNNER_FAULTS: tuple[FaultKind, ...] = (
    "kill_runner", "kill_runner", "kill_runner", "load_fails", "load_crashes", "load_hangs",
    "no_room",
)  # fmt: skip
PART_FAULTS: tuple[FaultKind, ...] = (
    "kill_worker", "kill_worker", "freeze_worker", "stop_worker", "stop_worker", "add_worker",
    "sleep",
    "kill_gateway", "freeze_gateway", "stop_gateway",
)  # fmt: skip
BROKER_FAULTS: tuple[FaultKind, ...] = (
    "restart_broker", "crash_broker", "hang_broker", "alarm", "delete_queue", "delete_queue",
    "delete_own_queue",
    "unbind",
    "full_queue", "full_queue", "junk",
)  # fmt: skip
NETWORK_FAULTS: tuple[FaultKind, ...] = (
    "reset", "reset", "cut", "cut", "stall", "silent", "half_open", "refuse", "damage",
)  # fmt: skip
CACHE_FAULTS: tuple[FaultKind, ...] = ("cache_slow", "cache_away", "cache_full", "cache_damaged")
FAMILIES = (RUNNER_FAULTS, PART_FAULTS, BROKER_FAULTS, NETWORK_FAULTS, CACHE_FAULTS)

EXCLUDED: set[FaultKind] = set()
"""Temporary: faults whose defects are reported and not mended yet."""


def draw(seed: str, only: Sequence[FaultKind] = ()) -> Schedule:
    """Give the schedule of a seed; ``only``: with no other faults than these."""
    chance = Random(f"schedule:{seed}")
    is_embedded = chance.random() < 0.25 and set(only) <= set(RUNNER_FAULTS)
    is_heavy = chance.random() < 0.2
    models = [
        _draw_model(chance, number, is_embedded) for number in range(chance.choice((1, 1, 2, 3)))
    ]
    if chance.random() < 0.15 and not is_embedded:
        models = [_replace_version(model, models[0]) for model in models]
    gateways = 1 if is_embedded else chance.choice((1, 1, 2, 3))
    events: list[Event] = []
    events += _draw_load(chance, models, is_embedded=is_embedded, is_heavy=is_heavy)
    times = [event.at for event in events]
    if only:
        kinds = [chance.choice(only) for _ in range(chance.choice((1, 2, 4)))]
    else:
        kinds = _draw_kinds(chance, is_embedded=is_embedded)
    events += [_draw_fault(chance, kind, times) for kind in kinds]
    is_far = chance.random() < 0.2
    model, asks = draw_streams(Random(f"streams:{seed}"), len(models), is_embedded=is_embedded)
    models += model
    events += asks
    job_model, jobs = draw_jobs(
        Random(f"jobs:{seed}"), len(models), is_embedded=is_embedded, has_faults=not only
    )
    models += job_model
    events += jobs
    callers, asks = draw_calls(Random(f"calls:{seed}"), len(models), is_embedded=is_embedded)
    models += callers
    events += asks
    return Schedule(
        seed=seed,
        is_embedded=is_embedded,
        gateways=gateways,
        models=models,
        latency_s=(0.002, 0.02) if is_far else (0.00005, 0.0006),
        confirm_delay_s=chance.choice((0.0, 0.0, 0.003, 0.05)),
        skew_s=chance.choice((0.0, 0.0, 0.02)),
        has_far_cache=not is_embedded and chance.random() < 0.5,
        is_heavy=is_heavy,
        events=sorted(events, key=lambda event: event.at),
    )


def _draw_model(chance: Random, number: int, is_embedded: bool) -> Model:
    max_runners = chance.choice((1, 1, 2, 3))
    return Model(
        name=f"m{number}",
        version="1",
        number=number,
        workers=0 if is_embedded else chance.choice((1, 1, 2, 2, 3)),
        max_batch_size=chance.choice((1, 2, 4, 8, 16)),
        batch_wait_ms=chance.choice((0.0, 0.0, 0.0, 5.0, 30.0)),
        min_runners=chance.randint(1, max_runners),
        max_runners=max_runners,
        idle_s=chance.choice((0.3, 2.0, 60.0)),
        scale_to_zero=chance.random() < 0.2,
        cache_ttl_s=chance.choice((0.0, 0.5, 60.0)),
        timeout_s=30.0,
        max_in_flight=chance.choice((1000, 1000, 20)),
        load_timeout_s=3.0,
        load_s=chance.choice((0.05, 0.2, 0.6)),
        base_ms=chance.choice((0.3, 3.0, 8.0, 20.0, 60.0)),
        each_ms=chance.choice((0.01, 0.5, 2.0)),
    )


def _replace_version(model: Model, first: Model) -> Model:
    """Make all models versions of one."""
    if model is first:
        return model
    fields = {name: getattr(model, name) for name in model.__struct_fields__}
    return Model(**{**fields, "name": first.name, "version": f"{model.number + 1}"})


def _draw_load(
    chance: Random, models: list[Model], *, is_embedded: bool, is_heavy: bool
) -> list[Event]:
    asks: list[Event] = []
    has_odd = chance.random() < 0.5
    has_msgpack = chance.random() < 0.2
    shared = chance.choice((0.0, 0.3, 0.7))
    number = 0
    for model in models:
        runners = max(1, model.workers) * model.max_runners
        each_s = (model.base_ms + model.each_ms) / 1000
        most = 0.3 * LOAD_S * runners / each_s  # none is batched with another, at worst
        count = int(min(chance.choice((10, 40, 100)), most))
        if is_heavy:
            count = int(min(250, max(60, 2.0 * LOAD_S * runners / each_s)))
        bursts = [chance.uniform(0, LOAD_S) for _ in range(chance.randint(1, 5))]
        is_bursty = chance.random() < 0.5 or is_heavy
        for _ in range(count):
            number += 1
            at = (
                chance.choice(bursts) + chance.expovariate(300)
                if is_bursty
                else chance.uniform(0, LOAD_S)
            )
            asks.append(
                _draw_ask(
                    chance,
                    model,
                    number,
                    at,
                    has_odd=has_odd,
                    has_msgpack=has_msgpack,
                    shared=shared,
                )
            )
    return asks


def _draw_ask(
    chance: Random,
    model: Model,
    number: int,
    at: float,
    *,
    has_odd: bool,
    has_msgpack: bool,
    shared: float,
) -> Ask:
    act: Act = ""
    if has_odd and chance.random() < 0.08:
        act = chance.choice(("raise", "refuse", "exit", "oom", "hang"))
    instances = 1
    if chance.random() < 0.2:
        instances = chance.choice((2, 3, 5, model.max_batch_size, model.max_batch_size + 1, 20))
    nonce = number * 100
    padding_bytes = 0
    if chance.random() < 0.01:
        padding_bytes = chance.choice((70_000, 300_000, 1_100_000))
    is_shared = not act and not padding_bytes and chance.random() < shared
    if is_shared:
        nonce, instances = -100 * chance.randint(1, 5), 1
    work_ms = chance.choice((0.0, 0.0, 0.0, 5.0, 30.0))
    if is_shared:  # the same, to the byte
        work_ms = 30.0 if nonce == -100 else 0.0
    timeout_s = chance.choice((30.0, 30.0, 30.0, 12.0, 2.0, 0.3))
    if act == "hang":
        timeout_s = chance.choice((0.3, 1.0))
    return Ask(
        at=round(at, 5),
        id=str(number),
        nonce=nonce,
        model=model.number,
        gateway=chance.randrange(3),
        instances=instances,
        act=act,
        work_ms=work_ms,
        timeout_s=timeout_s,
        priority="high" if chance.random() < 0.2 else "normal",
        is_bypass=chance.random() < 0.1,
        leaves_after_s=chance.expovariate(20) if chance.random() < 0.1 else None,
        form="msgpack" if has_msgpack and chance.random() < 0.4 else "json",
        padding_bytes=padding_bytes,
    )


def _draw_kinds(chance: Random, *, is_embedded: bool) -> list[FaultKind]:
    if chance.random() < 0.15:
        return []
    families = [RUNNER_FAULTS] if is_embedded else list(FAMILIES)
    if chance.random() < 0.5:
        families = [chance.choice(families)]
    kinds = [kind for family in families for kind in family if kind not in EXCLUDED]
    if chance.random() < 0.3:
        kinds = [chance.choice(kinds)]
    return [chance.choice(kinds) for _ in range(chance.choice((1, 1, 2, 3, 6)))]


def _draw_fault(chance: Random, kind: FaultKind, asked: Sequence[float]) -> Fault:
    """Draw when and how something breaks: mostly soon after somebody has asked."""
    at = chance.uniform(0.0, LOAD_S)
    if asked and chance.random() < 0.7:
        at = chance.choice(asked) + chance.expovariate(chance.choice((5.0, 50.0, 500.0)))
    lasts_s = chance.choice((0.05, 0.5, 1.0, 2.5))
    if kind == "hang_broker":
        lasts_s = chance.choice((0.5, 3.0, 8.0))
    elif kind == "freeze_worker":
        lasts_s = chance.choice((0.5, 2.5, 30.0))
    elif kind == "alarm":
        lasts_s = chance.choice((0.5, 2.5, 9.0))
    elif kind == "silent":
        lasts_s = chance.choice((0.5, 6.0))
    elif kind == "stop_worker":
        lasts_s = chance.choice((0.0, 1.0, 2.0))
    return Fault(
        at=round(at, 5),
        kind=kind,
        whose=chance.randrange(60),
        lasts_s=lasts_s,
        amount=chance.randrange(4800),
    )
