"""The oracle: what must be true of every simulation, whatever its seed."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import msgspec

from modelyard.core.call import Call
from modelyard.core.errors import RequestError
from tests.simulation.ledger import Asked
from tests.simulation.loop import SimulatedTask
from tests.simulation.parts import Embedded, Front, Gateway, Part, Pooled, Worker
from tests.simulation.runners import Instance
from tests.simulation.schedule import FaultKind

if TYPE_CHECKING:
    from tests.simulation.world import World

GRACE_S = 0.15
"""So late may an answer come: two ticks of the expiry, and a far cache that is waited for."""

ROOMY_S = 10.0
"""A request with so much time is late only where its faults say so."""

SAMPLE_S = 0.05
IDLE_GRACE_S = 0.03
BROKER_AWAY = "the broker was away, or took no messages"

_LOADS = ("load_fails", "load_crashes", "load_hangs", "no_room")
_SILENT = {"unavailable", "deadline_exceeded"}
_NO_CAPACITY = {"model_not_ready"}
ALLOWED: dict[FaultKind, set[str]] = {
    # The rows of docs/reliability.md: what a request with a roomy deadline may get beside its
    # answer, while the fault lasts and until all have come back.
    "kill_runner": set(),
    "load_fails": _NO_CAPACITY | {"deadline_exceeded"},
    "load_crashes": _NO_CAPACITY | {"deadline_exceeded"},
    "load_hangs": _NO_CAPACITY | {"deadline_exceeded"},
    "no_room": _NO_CAPACITY | {"deadline_exceeded"},
    "kill_worker": set(),
    "freeze_worker": set(),
    "stop_worker": _NO_CAPACITY,
    "add_worker": set(),
    "kill_gateway": set(),
    "freeze_gateway": _SILENT,
    "stop_gateway": set(),
    "restart_broker": set(),
    "crash_broker": set(),
    "hang_broker": {"unavailable"},
    "alarm": {"unavailable"},
    "delete_queue": _NO_CAPACITY,
    "delete_own_queue": set(),
    "full_queue": {"overloaded"},
    "junk": set(),
    "reset": set(),
    "cut": set(),
    "stall": {"unavailable"},
    "silent": _SILENT,
    "half_open": _SILENT,
    "refuse": set(),
    "damage": _SILENT | _NO_CAPACITY | {"malformed"},
    "cache_slow": set(),
    "cache_away": set(),
    "cache_full": set(),
    "cache_damaged": set(),
}
OF_ACT: dict[str, set[str]] = {
    "": {"ok"},
    "raise": {"model_failed"},
    "refuse": {"invalid_input"},
    "exit": {"model_crashed"},
    "oom": {"model_crashed"},
    "hang": {"deadline_exceeded"},
}


class Checks:
    """What is checked as it happens."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._idle: set[tuple[str, int, int]] = set()
        self._unjust: defaultdict[str, int] = defaultdict(int)
        self._handed: set[tuple[str, str]] = set()
        self.tasks: dict[str, int] = {}

    def begin(self) -> None:
        """Begin to look, now and then."""
        self._world.loop.call_later(SAMPLE_S, self._sample)
        self.tasks = {part.name: count_tasks(part) for part in self._world.fronts}

    # Answers.

    def on_answer(self, asked: Asked) -> None:
        """See that an answer is the only one, right, and in time."""
        world, ask = self._world, asked.ask
        if asked.answers > 1:
            self._problem(f"{ask.id} has {asked.answers} answers")
        late_s = asked.answered_at - asked.deadline
        if late_s > GRACE_S and not self._was_frozen(asked):
            self._problem(f"{ask.id} was answered {late_s:.3f} s after its deadline: {asked.code}")
        if asked.code == "deadline_exceeded" and late_s < -0.001 - 2 * world.schedule.skew_s:
            self._problem(f"{ask.id} was called late {-late_s:.3f} s too early")
        if asked.has_left:
            if asked.code != "client_gone":
                self._problem(f"{ask.id} left, and got {asked.code}")
            return
        allowed = self._allowed(asked)
        if asked.code not in allowed:
            detail = getattr(asked.outcome, "detail", "")
            self._problem(f"{ask.id} ({ask.act}) got {asked.code} ({detail}), not one of {allowed}")
        if isinstance(asked.outcome, bytes):
            self._check_answer(asked, asked.outcome)

    def _check_answer(self, asked: Asked, outcome: bytes) -> None:
        ask, models = asked.ask, self._world.schedule.models
        model = models[ask.model]
        target = asked.target
        if target is None or (target.name, target.version) != (model.name, model.version):
            self._problem(f"{ask.id} was answered by {target}")
        right = [model.answer(nonce) for nonce in range(ask.nonce, ask.nonce + ask.instances)]
        codec = msgspec.json if ask.form == "json" else msgspec.msgpack
        try:
            given = codec.decode(outcome)
        except msgspec.DecodeError:
            given = None
        if given != right:
            self._problem(f"{ask.id} got a wrong answer: {outcome!r:.80}, not {right}")

    def _allowed(self, asked: Asked) -> set[str]:
        """Give the codes that the table of faults allows."""
        ask, schedule = asked.ask, self._world.schedule
        allowed = set(OF_ACT[ask.act])
        if asked.is_probe:
            return allowed
        kinds: set[FaultKind] = set()
        for since, until, fault in self._world.faults:
            if since <= asked.answered_at and asked.at <= until:
                kinds.add(fault.kind)
                allowed |= ALLOWED[fault.kind]
                if ask.timeout_s < ROOMY_S:
                    allowed |= _SILENT
        if kinds & {"kill_gateway", "stop_gateway"} and len(kinds) > 1:
            # A gateway that has never heard a worker of the target does not wait for one.
            allowed |= {"model_not_ready", "model_not_found", "version_not_found"}
        model = schedule.models[ask.model]
        if ask.timeout_s < ROOMY_S or schedule.is_heavy or self._hangs(ask.model):
            allowed.add("deadline_exceeded")
        if schedule.is_heavy:
            allowed.add("overloaded")
        in_flight = sum(a.ask.model == ask.model for a in self._world.ledger.asked)
        if in_flight >= model.max_in_flight:
            allowed.add("overloaded")
        if self._blame(ask.nonce, model.name) >= 4:
            allowed.add("model_crashed")
        elif ask.act in ("exit", "oom"):
            allowed.discard("model_crashed")
        return allowed

    def _hangs(self, model: int) -> bool:
        """Whether something that hangs was asked of a model: its mates then wait."""
        return any(
            asked.ask.model == model and asked.ask.act in ("hang", "oom")
            for asked in self._world.ledger.asked
        )

    def _blame(self, nonce: int, model: str) -> int:
        """Give the most blame that an input may have gathered in one life of a pool."""
        blames: Counter[str] = Counter()
        for death in self._world.ledger.deaths:
            if nonce in death.nonces and death.life.endswith(f":{model}"):
                blames[death.life] += {"crashed": 2, "killed": 1}.get(death.cause, 0)
        return max(blames.values(), default=0)

    def _was_frozen(self, asked: Asked) -> bool:
        return any(
            fault.kind == "freeze_gateway" and since <= asked.answered_at and asked.at <= until
            for since, until, fault in self._world.faults
        )

    # Batches.

    def on_batch(self, pooled: Pooled, batch: list[list[Instance] | None]) -> None:
        """See that a batch is no larger than it may be."""
        sizes = [len(instances) for instances in batch if instances is not None]
        limit = pooled.model.max_batch_size
        if len(batch) > 1 and sum(sizes) > limit and not self._world.checks.has_msgpack(pooled):
            self._problem(f"{pooled.life} ran {sum(sizes)} instances at once, not {limit}")

    def has_msgpack(self, pooled: Pooled) -> bool:
        """Whether some ask in a form whose instances are not counted."""
        return any(
            asked.ask.form == "msgpack" and asked.ask.model == pooled.model.number
            for asked in self._world.ledger.asked
        )

    def on_handed(self, pooled: Pooled, calls: list[Call]) -> None:
        """See that what is urgent goes first, but for every fourth batch; and that a suspect goes
        alone.
        """
        now = pooled.part.clock()
        if any(call.blame for call in calls) and len(calls) > 1:
            self._problem(f"{pooled.life} runs a suspect together with others")
        late = [call.request.id for call in calls if call.deadline <= now]
        if late:
            self._problem(f"{pooled.life} was handed {late}, which are late")
        if len(calls) == 1 and self._may_be_suspect(pooled, calls[0]):
            self._unjust[pooled.life] = 0
            return
        self._handed.update((pooled.life, call.request.id) for call in calls)
        line = pooled.pool._waiting._backlog._lines["high"]
        left = [call for _, _, call in line if not call.is_settled and call.deadline > now]
        is_unjust = bool(left) and all(call.priority == "normal" for call in calls)
        self._unjust[pooled.life] = self._unjust[pooled.life] + 1 if is_unjust else 0
        if self._unjust[pooled.life] >= 2:
            self._problem(f"{pooled.life} let what is urgent wait behind two batches that are not")

    def _may_be_suspect(self, pooled: Pooled, call: Call) -> bool:
        """Whether a call may run alone, in turn with batches: it was in one whose runner ended, or
        was delivered again.
        """
        is_again = (pooled.life, call.request.id) in self._handed
        return is_again or (not self._world.schedule.is_embedded and bool(self._world.faults))

    # Now and then.

    def _sample(self) -> None:
        self._world.loop.call_later(SAMPLE_S, self._sample)
        idle: set[tuple[str, int, int]] = set()
        for pooled in self._world.pools():
            if pooled.part.process.state != "up" or not pooled.pool._waiting:
                continue
            free = [s for s in pooled.pool._runners.slots if s.is_ready and not s.batch]
            if not free:
                continue
            now = pooled.part.clock()
            wait_s = pooled.model.batch_wait_ms / 1000 + IDLE_GRACE_S
            for call in pooled.pool._waiting:
                may_run = not call.is_settled and call.deadline > now
                if may_run and now - call.arrived > wait_s:
                    idle |= {(pooled.life, id(slot), id(call)) for slot in free}
        if stuck := idle & self._idle:
            lives = {life for life, _, _ in stuck}
            self._problem(f"a runner of {lives} is idle while its pool holds work")
        self._idle = idle

    def _problem(self, text: str) -> None:
        self._world.log(f"PROBLEM {text}")
        self._world.ledger.problem(text)


def count_tasks(part: Part) -> int:
    """Count the tasks of a part that are not done."""
    return sum(not task.done() for task in part.process.tasks)


def judge_rest(world: World) -> None:
    """See that nothing is left lying once all is over, and that the books agree."""
    problem = world.checks._problem
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


def _judge_front(world: World, front: Front) -> None:
    problem, name = world.checks._problem, front.name
    if front.calls:
        problem(f"{name} has calls left: {[asked.ask.id for asked in front.calls]}")
    for entry in front.catalog.entries():
        if entry.in_flight:
            problem(f"{name} counts {entry.in_flight} of {entry.target} in flight")
    if front.dispatch._flights._flights:
        problem(f"{name} has flights left")
    if front.dispatch._expiry._deadlines:
        problem(f"{name} watches deadlines of nobody")
    if isinstance(front, Gateway):
        if front.transport.pending or front.transport._bundles:
            problem(f"{name} has {front.transport.pending} requests pending")
        for lane in front.transport._lanes.values():
            if not lane.is_empty or lane._under_way or lane._instances:
                problem(f"{name} has a lane that is not empty: {lane.queue}")
    tasks = world.checks.tasks.get(name)
    if not isinstance(front, Embedded) and tasks is not None and count_tasks(front) != tasks:
        problem(f"{name} has {count_tasks(front)} tasks, and had {tasks}")
    mine = [asked for asked in world.ledger.asked if asked.gateway == name]
    late = sum(
        isinstance(asked.outcome, RequestError)
        and (asked.code == "deadline_exceeded" or asked.outcome.detail == BROKER_AWAY)
        for asked in mine
    )
    if front.metrics.expirations != late:
        problem(f"{name} counts {front.metrics.expirations} expired, the ledger {late}")
    for use in ("hit", "miss", "coalesced"):
        seen = sum(asked.cache_use == use for asked in mine)
        if front.metrics.uses[use] != seen:
            problem(f"{name} counts {front.metrics.uses[use]} {use}, the ledger {seen}")


def _judge_pool(world: World, pooled: Pooled) -> None:
    problem, pool, life = world.checks._problem, pooled.pool, pooled.life
    if any(not call.is_settled for call in pool._waiting):
        problem(f"{life} has calls that wait")
    for slot in pool._runners.slots:
        if slot.batch or slot.ahead:
            problem(f"{life} has a batch that runs")
        times = pool._runners.idle.count(slot)
        if times != slot.is_ready:
            problem(f"{life} has a runner {times} times among the idle, ready={slot.is_ready}")
    if len(pool._runners.idle) > len(pool._runners.slots):
        problem(f"{life} has more idle runners than runners")
    has_load_faults = any(
        fault.kind in _LOADS or fault.kind in ("freeze_worker", "freeze_gateway", "kill_runner")
        for _, _, fault in world.faults
    )
    if not has_load_faults:
        seen = Counter(death.cause for death in world.ledger.deaths if death.life == life)
        del pooled.counts.lost["load_failed"]  # it was frozen while it loaded
        if +seen != +pooled.counts.lost:
            problem(f"{life} counts {dict(pooled.counts.lost)} lost, the ledger {dict(seen)}")


def _judge_broker(world: World) -> None:
    problem = world.checks._problem
    if any(fault.kind == "damage" for _, _, fault in world.faults):
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
    expected = Counter(replies=fronts, catalog=fronts, hello=workers)
    if own != +expected:
        problem(f"the broker has queues {dict(own)}, expected {dict(+expected)}")


def _judge_runs(world: World) -> None:
    """See that nothing ran late, or more often than it may."""
    problem, models = world.checks._problem, world.schedule.models
    asks: defaultdict[tuple[str, int], list[Asked]] = defaultdict(list)
    for asked in world.ledger.asked:
        for nonce in range(asked.ask.nonce, asked.ask.nonce + asked.ask.instances):
            asks[models[asked.ask.model].name, nonce].append(asked)
    grace_s = 0.005 + 2 * world.schedule.skew_s
    for run in world.ledger.runs:
        meant = asks[run.life.partition(":")[2], run.nonce]
        if run.is_first_of_batch and all(a.deadline + grace_s < run.at for a in meant):
            problem(f"{run.life} ran {run.nonce} {run.at - meant[0].deadline:.3f} s too late")
    _judge_poison(world, asks)
    _judge_submissions(world)


def _judge_submissions(world: World) -> None:
    """See that each request comes to a pool once, where nothing broke."""
    times: Counter[str] = Counter()
    for (_, request_id), number in world.ledger.submissions.items():
        times[request_id] += number
    again = [request_id for request_id, number in times.items() if number > 1]
    if again and not world.faults and not world.has_retries():
        world.checks._problem(f"{again} came to a pool more than once")


def _judge_poison(
    world: World, asks: defaultdict[tuple[str, int], list[Asked]]
) -> None:
    """See that what ends runners is given up in time: one that was to blame enough ran no more."""
    weights: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    for death in world.ledger.deaths:
        weight = {"crashed": 2, "killed": 1}.get(death.cause, 0)  # a hang says nothing of others
        for nonce in death.nonces:
            weights[death.life, nonce].append(weight)
    for (life, nonce), gathered in weights.items():
        meant = asks[life.partition(":")[2], nonce]
        submissions = sum(world.ledger.submissions[life, asked.ask.id] for asked in meant)
        if sum(gathered[:-1]) >= 4 * max(1, submissions):
            act = meant[0].ask.act
            world.checks._problem(f"{life} ran {nonce} ({act}) on and on: {gathered}")


def judge_end(world: World) -> None:
    """See that everybody has left, and nothing lives on."""
    problem = world.checks._problem
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
    if left_links and not any(f.kind in ("silent", "half_open") for _, _, f in world.faults):
        problem(f"connections are left: {left_links}")


def _name(task: asyncio.Task[object]) -> str:
    assert isinstance(task, SimulatedTask)
    return getattr(task.get_coro(), "__qualname__", "?")
