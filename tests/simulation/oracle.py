"""The oracle: what must be true once all is over, and once everybody has left, whatever the seed.

What must be true at every moment is in ``checks``.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from modelyard.core.errors import RequestError
from modelyard.gateway.question import INLINE_PARSE_BYTES
from tests.simulation.faults import LOADS
from tests.simulation.jobs.checks import judge_jobs
from tests.simulation.ledger import Asked
from tests.simulation.loop import SimulatedTask
from tests.simulation.part import count_tasks
from tests.simulation.parts import Embedded, Front, Gateway, Worker
from tests.simulation.pooled import Pooled
from tests.simulation.streams.checks import judge_leaving, judge_streams

if TYPE_CHECKING:
    from tests.simulation.world import World

LONG_TTL_S = 60.0
ALARM_ANSWER_S = 5.5
BROKER_AWAY = "the broker was away, or took no messages"
_HARMLESS = ("junk", "cache_slow", "cache_away", "cache_full", "cache_damaged", "kill_runner")


def judge_rest(world: World) -> None:
    """See that nothing is left lying once all is over, and that the books agree."""
    problem = world.checks.problem
    for asked in world.ledger.asked:
        if not asked.answers and not asked.is_excused:
            problem(f"{asked.ask.id} of {asked.gateway} has no answer")
    for front in world.fronts:
        _judge_front(world, front)
    for pooled in world.pools():
        _judge_pool(world, pooled)
    for worker in world.workers:
        if worker.consumer._replies is not None and worker.consumer._replies.open:
            problem(f"{worker.name} has deliveries open")
        if worker.consumer._replies is not None and worker.consumer._replies._waiting:
            problem(f"{worker.name} has answers that wait")
    if not world.schedule.is_embedded:
        _judge_broker(world)
    _judge_runs(world)
    judge_streams(world)
    judge_leaving(world)
    judge_jobs(world)


def _judge_front(world: World, front: Front) -> None:
    problem, name = world.checks.problem, front.name
    if front.calls:
        problem(f"{name} has calls left: {[asked.ask.id for asked in front.calls]}")
    for entry in front.catalog.entries():
        if entry.in_flight:
            problem(f"{name} counts {entry.in_flight} of {entry.target} in flight")
    if front.dispatch._flights._flights:
        problem(f"{name} has flights left")
    if front.dispatch.expiry._deadlines:
        problem(f"{name} watches deadlines of nobody")
    if isinstance(front, Gateway):
        for worker in world.workers:
            members = front.watcher.members(worker.pool.target)
            if worker.name not in [member.name for member in members]:
                problem(f"{name} does not know {worker.name}")
        if front.transport.pending or front.transport._bundles:
            problem(f"{name} has {front.transport.pending} requests pending")
        for lane in front.transport._lanes.values():
            if not lane.is_empty or lane._under_way or lane._instances:
                problem(f"{name} has a lane that is not empty: {lane.queue}")
    _judge_books(world, front)


def _judge_books(world: World, front: Front) -> None:
    """See that the metrics agree with the ledger."""
    problem, name = world.checks.problem, front.name
    tasks = world.checks.tasks.get(name)
    if not isinstance(front, Embedded) and tasks is not None and count_tasks(front) != tasks:
        problem(f"{name} has {count_tasks(front)} tasks, and had {tasks}")
    mine = [asked for asked in world.ledger.asked if asked.gateway == name]
    late = sum(
        isinstance(asked.outcome, RequestError)
        and (asked.code == "deadline_exceeded" or asked.outcome.detail == BROKER_AWAY)
        for asked in mine
    )
    codes = Counter(asked.code for asked in mine)
    codes.update(front.refusals)
    for (code, detail), times in front.inner_codes.items():
        codes[code] += times
        late += times * (code == "deadline_exceeded" or detail == BROKER_AWAY)
    if front.office is not None:
        for (code, detail), times in front.office.dispatching.outcomes.items():
            late += times * (code == "deadline_exceeded" or detail == BROKER_AWAY)
    if front.metrics.expirations != late:
        problem(f"{name} counts {front.metrics.expirations} expired, the ledger {late}")
    if codes != front.metrics.codes:
        problem(f"{name} counts {dict(front.metrics.codes)}, the ledger {dict(codes)}")
    for use in ("hit", "miss", "coalesced"):
        seen = sum(asked.cache_use == use for asked in mine)
        untold = sum(asked.code != "ok" for asked in mine)
        if not seen <= front.metrics.uses[use] <= seen + untold:
            problem(f"{name} counts {front.metrics.uses[use]} {use}, the ledger {seen}")


def _judge_pool(world: World, pooled: Pooled) -> None:
    problem, pool, life = world.checks.problem, pooled.pool, pooled.life
    if any(not call.is_settled for call in pool._waiting):
        problem(f"{life} has calls that wait")
    for slot in pool._runners.slots:
        if slot.batch or slot.ahead:
            problem(f"{life} has a batch that runs")
        times = pool._runners.idle.count(slot)
        if times != slot.is_ready:
            problem(f"{life} has a runner {times} times among the idle, ready={slot.is_ready}")
    scaling, slots = pool.manifest.scaling, len(pool._runners.slots)
    least = 0 if scaling.scale_to_zero else scaling.min_runners
    if not least <= slots <= scaling.max_runners:
        problem(f"{life} has {slots} runners, not {least} to {scaling.max_runners}")
    has_load_faults = any(
        struck.fault.kind in (*LOADS, "freeze_worker", "freeze_gateway", "kill_runner")
        for struck in world.faults
    )
    if not has_load_faults:
        seen = Counter(death.cause for death in world.ledger.deaths if death.life == life)
        del pooled.counts.lost["load_failed"]  # it was frozen while it loaded
        if +seen != +pooled.counts.lost:
            problem(f"{life} counts {dict(pooled.counts.lost)} lost, the ledger {dict(seen)}")


def _judge_broker(world: World) -> None:
    problem = world.checks.problem
    if any(struck.fault.kind == "damage" for struck in world.faults):
        return  # an ack may have been damaged into one of another message
    for queue in world.broker.queues.values():
        if queue.name.startswith("infer.") and (queue.ready or queue.unacked):
            problem(f"{queue.name} holds {len(queue.ready)}, unacked {queue.unacked}")
    for part in [*world.fronts, *world.workers]:
        links = len(world.network.of(part.process))
        if links != 3:
            problem(f"{part.name} has {links} connections")
    own = Counter(name.partition(".")[0] for name, q in world.broker.queues.items() if q.owner)
    fronts, workers = len(world.fronts), len(world.workers)
    expected = Counter(replies=fronts, catalog=fronts, hello=workers, notices=workers)
    if own != +expected:
        problem(f"the broker has queues {dict(own)}, expected {dict(+expected)}")


def _begins_late(world: World, asked: Asked) -> bool:
    """Return whether its time may have begun late: a large body is read in a thread, while which
    its gateway may be frozen.
    """
    is_large = asked.ask.padding_bytes > INLINE_PARSE_BYTES
    frozen = [struck for struck in world.faults if struck.fault.kind == "freeze_gateway"]
    return is_large and any(struck.since <= asked.deadline for struck in frozen)


def _judge_runs(world: World) -> None:
    """See that nothing ran late, or more often than it may."""
    problem, models = world.checks.problem, world.schedule.models
    asks: defaultdict[tuple[str, int], list[Asked]] = defaultdict(list)
    for asked in world.ledger.asked:
        for nonce in range(asked.ask.nonce, asked.ask.nonce + asked.ask.instances):
            asks[models[asked.ask.model].name, nonce].append(asked)
    grace_s = 0.005 + 2 * world.schedule.skew_s
    # A call says how long it may take, and its way to a gateway is not known: that may be frozen.
    called_grace_s = grace_s + len(models) * world.schedule.latency_s[1]
    faults = [struck.fault for struck in world.faults]
    called_grace_s += sum(one.lasts_s for one in faults if one.kind == "freeze_gateway")
    for run in world.ledger.runs:
        meant = asks[run.life.partition(":")[2], run.nonce]
        if not meant:  # it is of a job, or of a model that another one calls
            asked_first = world.ledger.by_nonce.get(run.nonce)
            if asked_first is None or not run.is_first_of_batch:
                continue
            if run.at > asked_first.deadline + called_grace_s:
                problem(f"{run.life} ran {run.nonce} for {asked_first.ask.id}, which is late")
            continue
        is_late = all(a.deadline + grace_s < run.at for a in meant)
        if run.is_first_of_batch and is_late and not any(_begins_late(world, a) for a in meant):
            problem(f"{run.life} ran {run.nonce} {run.at - meant[0].deadline:.3f} s too late")
    _judge_poison(world, asks)
    _judge_submissions(world)
    _judge_sharing(world)
    _judge_alarms(world)


def _judge_submissions(world: World) -> None:
    """See that each request comes to a pool once, where nothing broke."""
    times: Counter[str] = Counter()
    for (_, request_id), number in world.ledger.submissions.items():
        times[request_id] += number
    # Not those of models that call others, which have the same ids, nor of jobs.
    models = world.schedule.models
    ids = [asked.ask.id for asked in world.ledger.asked if not models[asked.ask.model].calls]
    again = [request_id for request_id in ids if times[request_id] > 1]
    if again and not world.faults and not world.has_retries():
        world.checks.problem(f"{again} came to a pool more than once")


def _judge_sharing(world: World) -> None:
    """See that identical requests run once for each gateway, where nothing broke or expired."""
    if world.faults:
        return
    models = world.schedule.models
    groups: defaultdict[tuple[int, int], list[Asked]] = defaultdict(list)
    for asked in world.ledger.asked:
        if asked.ask.nonce < 0 and models[asked.ask.model].cache_ttl_s >= LONG_TTL_S:
            groups[asked.ask.model, asked.ask.nonce].append(asked)
    for (number, nonce), group in groups.items():
        asking = [asked for asked in group if not asked.ask.is_bypass]
        has_keys = all(asked.cache_use != "bypass" for asked in asking)  # not before the first load
        if not has_keys or any(asked.code != "ok" for asked in group):
            continue
        ids = {asked.ask.id for asked in group}
        runs = sum(n for (_, one), n in world.ledger.submissions.items() if one in ids)
        # What is urgent does not wait for what is not, nor MessagePack for JSON.
        kinds = {(asked.gateway, asked.ask.priority, asked.ask.form) for asked in group}
        most = len(kinds) + sum(asked.ask.is_bypass for asked in group)
        if runs > most:
            world.checks.problem(
                f"{nonce} of {models[number].name} came to a pool {runs} times, not {most}"
            )


def _judge_alarms(world: World) -> None:
    """See that nobody waits long for a broker that takes no messages: neither who asks meanwhile
    nor whose request runs already.
    """
    kinds = {struck.fault.kind for struck in world.faults}
    if world.schedule.is_heavy or not kinds <= {"alarm", *_HARMLESS}:
        return
    for struck in world.faults:
        over = struck.since + struck.fault.lasts_s
        if struck.fault.kind != "alarm":
            continue
        for asked in world.ledger.asked:
            since = max(asked.at, struck.since)
            is_during = asked.answered_at > struck.since and since + ALARM_ANSWER_S < over
            if is_during and asked.answered_at - since > ALARM_ANSWER_S and not asked.ask.act:
                world.checks.problem(f"{asked.ask.id} waited for the end of an alarm")


def _judge_poison(world: World, asks: defaultdict[tuple[str, int], list[Asked]]) -> None:
    """See that what ends runners is given up in time: one that was to blame enough ran no more."""
    weights: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    for death in world.ledger.deaths:
        weight = {"crashed": 2, "killed": 1}.get(death.cause, 0)  # a hang says nothing of others
        for nonce in death.nonces:
            weights[death.life, nonce].append(weight)
    for (life, nonce), gathered in weights.items():
        meant = asks[life.partition(":")[2], nonce]
        if not meant:
            continue  # it is of a job, each of whose attempts begins without blame
        submissions = sum(world.ledger.submissions[life, asked.ask.id] for asked in meant)
        if sum(gathered[:-1]) >= 4 * max(1, submissions):
            act = meant[0].ask.act
            world.checks.problem(f"{life} ran {nonce} ({act}) on and on: {gathered}")


def judge_end(world: World) -> None:
    """See that everybody has left, and nothing lives on."""
    problem = world.checks.problem
    for part in world.parts:
        if part.process.state == "dead":
            continue
        assert part.done is not None
        if not part.done.done():
            problem(f"{part.name} does not end")
            continue
        if (error := part.done.exception()) is not None:
            problem(f"{part.name} ended with {error!r}")
        left = [task for task in part.process.tasks if not task.done()]
        if left:
            problem(f"{part.name} has left tasks behind: {[_name(task) for task in left]}")
        pools = part.pools if isinstance(part, Embedded) else []
        if isinstance(part, Worker):
            pools = [part.pooled]
        for pooled in pools:
            if pooled.launcher.live:
                problem(f"{part.name} has left {len(pooled.launcher.live)} runners behind")
    left_links = [link.owner for link in world.network.links]
    if left_links and not any(s.fault.kind in ("silent", "half_open") for s in world.faults):
        problem(f"connections are left: {left_links}")


def _name(task: asyncio.Task[object]) -> str:
    assert isinstance(task, SimulatedTask)
    return getattr(task.get_coro(), "__qualname__", "?")
