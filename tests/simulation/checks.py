"""What is checked as it happens: answers, batches, and that nobody is idle who should not be."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import msgspec

from modelyard.calling.caller import MARGIN_S
from modelyard.core.call import Call
from modelyard.pool.slot import QUICK_RETRIES
from tests.simulation.allowed import (
    GRACE_S,
    OF_ACT,
    ROOMY_S,
    SILENT,
)
from tests.simulation.calls.checks import allowed_of_calls
from tests.simulation.jobs.checks import JobChecks
from tests.simulation.ledger import Asked
from tests.simulation.part import count_tasks
from tests.simulation.parts import Gateway
from tests.simulation.pooled import Pooled
from tests.simulation.schedule import Ask, FaultKind, Instance
from tests.simulation.streams.checks import StreamChecks, has_room

if TYPE_CHECKING:
    from tests.simulation.world import World

SAMPLE_S = 0.05
ENDS_A_GATEWAY = {"kill_gateway", "stop_gateway"}
IDLE_GRACE_S = 0.03


class Checks:
    """What is checked as it happens."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._idle: set[tuple[str, int, int]] = set()
        asks = [event for event in world.schedule.events if isinstance(event, Ask)]
        self._asks = Counter(ask.model for ask in asks)
        # What is asked together with something that hangs may have to wait for it.
        self._hanging = {ask.model for ask in asks if ask.act in ("hang", "oom")}
        self._uncounted = {ask.model for ask in asks if ask.form == "msgpack"}
        called = {name for model in world.schedule.models for name in model.calls}
        self._uncounted |= {one.number for one in world.schedule.models if one.name in called}
        self._held: set[tuple[str, int]] = set()
        self._unjust: defaultdict[str, int] = defaultdict(int)
        self._handed: set[tuple[str, str]] = set()
        self.tasks: dict[str, int] = {}
        self.streams = StreamChecks(world)
        self.jobs = JobChecks(world)

    def begin(self) -> None:
        """Begin to look, now and then."""
        self._world.loop.call_later(SAMPLE_S, self._sample)
        self.tasks = {part.name: count_tasks(part) for part in self._world.fronts}

    # Answers.

    def on_answer(self, asked: Asked) -> None:
        """See that an answer is the only one, right, and in time."""
        world, ask = self._world, asked.ask
        if asked.answers > 1:
            self.problem(f"{ask.id} has {asked.answers} answers")
        if asked.pieces:
            self.streams.on_answer(asked)
            return
        late_s = asked.answered_at - asked.deadline
        if late_s > GRACE_S and not self.was_frozen(asked):
            self.problem(f"{ask.id} was answered {late_s:.3f} s after its deadline: {asked.code}")
        early_s = 0.001 + 2 * world.schedule.skew_s
        if world.schedule.models[ask.model].calls:
            early_s += MARGIN_S * len(world.schedule.models)  # of each call in a row
        if asked.code == "deadline_exceeded" and late_s < -early_s:
            self.problem(f"{ask.id} was called late {-late_s:.3f} s too early")
        if asked.has_left:
            if asked.code != "client_gone":
                self.problem(f"{ask.id} left, and got {asked.code}")
            return
        allowed = self._allowed(asked)
        if asked.code not in allowed:
            detail = getattr(asked.outcome, "detail", "")
            self.problem(f"{ask.id} ({ask.act}) got {asked.code} ({detail}), not one of {allowed}")
        if isinstance(asked.outcome, bytes) and not ask.pieces:
            self._check_answer(asked, asked.outcome)

    def _check_answer(self, asked: Asked, outcome: bytes) -> None:
        ask, models = asked.ask, self._world.schedule.models
        model = models[ask.model]
        target = asked.target
        if target is None or (target.name, target.version) != (model.name, model.version):
            self.problem(f"{ask.id} was answered by {target}")
        right = [model.answer(nonce) for nonce in range(ask.nonce, ask.nonce + ask.instances)]
        codec = msgspec.json if ask.form == "json" else msgspec.msgpack
        try:
            given = codec.decode(outcome)
        except msgspec.DecodeError:
            given = None
        if given != right:
            self.problem(f"{ask.id} got a wrong answer: {outcome!r:.80}, not {right}")

    def _allowed(self, asked: Asked) -> set[str]:
        """Give the codes that the table of faults allows."""
        ask, schedule = asked.ask, self._world.schedule
        allowed = set(OF_ACT[ask.act])
        if schedule.models[ask.model].calls:
            allowed = allowed_of_calls(self._world, asked)
        if asked.is_probe:
            # A long job goes on where nobody can tell its worker any more that it was cancelled.
            is_left = any(struck.fault.kind in ENDS_A_GATEWAY for struck in self._world.faults)
            takes_s = [job.ask.work_ms / 1000 for job in self._world.ledger.jobs if is_left]
            return allowed | ({"deadline_exceeded"} if max(takes_s, default=0) > 20.0 else set())
        is_short = asked.deadline - asked.at < ROOMY_S
        kinds: Counter[FaultKind] = Counter()
        for struck in self._world.faults:
            if struck.since <= asked.answered_at and asked.at <= struck.until:
                kinds[struck.fault.kind] += 1
                allowed |= struck.allowed
                if is_short:
                    allowed |= SILENT
        if kinds.keys() & ENDS_A_GATEWAY and len(kinds) > 1:
            # A gateway that has never heard a worker of the target does not wait for one.
            allowed.add("model_not_ready")
        allowed |= {"stream_broken"} if kinds["damage"] and ask.pieces else set()  # its first ones
        if kinds["kill_runner"] > QUICK_RETRIES:
            allowed.add("model_not_ready")  # each of them may have hit a load
        model = schedule.models[ask.model]
        if is_short or schedule.is_heavy or ask.model in self._hanging:
            allowed.add("deadline_exceeded")
        if schedule.is_heavy:
            allowed.add("overloaded")
        if self._asks[ask.model] >= model.max_in_flight:
            allowed.add("overloaded")
        if self._blame(ask.nonce, model.name) >= 4:
            allowed.add("model_crashed")
        elif ask.act in ("exit", "oom"):
            allowed.discard("model_crashed")
        return allowed

    def _blame(self, nonce: int, model: str) -> int:
        """Give the most blame that an input may have gathered in one life of a pool. A runner that
        is killed before it reads its batch ran none of it, which the pool cannot know.
        """
        blames: Counter[str] = Counter()
        for death in self._world.ledger.deaths:
            may_have_had_it = nonce in death.nonces or not death.nonces
            if may_have_had_it and death.life.endswith(f":{model}"):
                blames[death.life] += {"crashed": 2, "killed": 1}.get(death.cause, 0)
        return max(blames.values(), default=0)

    def was_frozen(self, asked: Asked) -> bool:
        return any(
            struck.fault.kind == "freeze_gateway"
            and struck.since <= asked.answered_at
            and asked.at <= struck.until
            for struck in self._world.faults
        )

    # Batches.

    def on_batch(self, pooled: Pooled, batch: list[list[Instance] | None]) -> None:
        """See that a batch is no larger than it may be."""
        sizes = [len(instances) for instances in batch if instances is not None]
        limit = pooled.model.max_batch_size
        if len(batch) > 1 and sum(sizes) > limit and pooled.model.number not in self._uncounted:
            self.problem(f"{pooled.life} ran {sum(sizes)} instances at once, not {limit}")

    def on_handed(self, pooled: Pooled, calls: list[Call]) -> None:
        """See that what is urgent goes first, but for every fourth batch; and that a suspect goes
        alone.
        """
        now = pooled.part.clock()
        if any(call.blame for call in calls) and len(calls) > 1:
            self.problem(f"{pooled.life} runs a suspect together with others")
        late = [call.request.id for call in calls if call.deadline <= now]
        if late:
            self.problem(f"{pooled.life} was handed {late}, which are late")
        if len(calls) == 1 and self._may_be_suspect(pooled, calls[0]):
            self._unjust[pooled.life] = 0
            return
        self._handed.update((pooled.life, call.request.id) for call in calls)
        line = pooled.pool._waiting._backlog._lines["high"]
        left = [call for _, _, call in line if not call.is_settled and call.deadline > now]
        is_unjust = bool(left) and all(call.priority == "normal" for call in calls)
        self._unjust[pooled.life] = self._unjust[pooled.life] + 1 if is_unjust else 0
        if self._unjust[pooled.life] >= 2:
            self.problem(f"{pooled.life} let what is urgent wait behind two batches that are not")

    def _may_be_suspect(self, pooled: Pooled, call: Call) -> bool:
        """Whether a call may run alone, in turn with batches: it was in one whose runner ended, or
        was delivered again.
        """
        is_again = (pooled.life, call.request.id) in self._handed
        return is_again or (not self._world.schedule.is_embedded and bool(self._world.faults))

    # Now and then.

    def _sample(self) -> None:
        self._world.loop.call_later(SAMPLE_S, self._sample)
        self._look_at_runners()
        self._look_at_lanes()

    def _look_at_lanes(self) -> None:
        """See that nothing stays in a lane that is open: a bundle waits a tenth of a sample.

        While a model's queue is deleted, a bundle leaves and comes back again and again, and may be
        found there each time.
        """
        now = self._world.loop.time()
        if any(
            struck.fault.kind == "delete_queue" and now < struck.since + struck.fault.lasts_s + 1.0
            for struck in self._world.faults
        ):
            self._held = set()
            return
        held: set[tuple[str, int]] = set()
        for front in self._world.fronts:
            if not isinstance(front, Gateway) or front.process.state != "up":
                continue
            for lane in front.transport._lanes.values():
                if lane._is_open:
                    held |= {(front.name, key) for key in lane._waiting}
        if stuck := held & self._held:
            self.problem(f"{sorted(stuck)[0][0]} holds back what could leave")
        self._held = held

    def _look_at_runners(self) -> None:
        """See that no runner is idle while its own pool holds work that may run."""
        idle: set[tuple[str, int, int]] = set()
        for pooled in self._world.pools():
            if len(pooled.pool._runners.slots) > pooled.model.max_runners:
                self.problem(f"{pooled.life} has more than {pooled.model.max_runners} runners")
            self.jobs.look_at(pooled)
            if pooled.part.process.state != "up" or not pooled.pool._waiting:
                continue
            free = [slot for slot in pooled.pool._runners.slots if has_room(slot)]
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
            self.problem(f"a runner of {lives} is idle while its pool holds work")
        self._idle = idle

    def problem(self, text: str) -> None:
        """Note that a promise is broken."""
        self._world.log(f"PROBLEM {text}")
        self._world.ledger.problem(text)
