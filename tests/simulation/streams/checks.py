"""What is checked of answers in pieces, as it happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelyard.core.stream import WINDOW
from modelyard.pool.concurrent import ConcurrentSlot
from modelyard.pool.slot import Slot
from modelyard.runner.concurrent.sources import OVERRUN
from tests.simulation.allowed import GRACE_S, OF_ACT, QUIET_FAULTS, ROOMY_S, SILENT, SILENT_FAULTS
from tests.simulation.ledger import Asked
from tests.simulation.pooled import Pooled
from tests.simulation.schedule import Ask, Order
from tests.simulation.streams.reader import HIGH_BYTES, LOW_BYTES, End

if TYPE_CHECKING:
    from tests.simulation.world import World

LEAVE_S = 0.4
"""So long after its caller has left a request may still begin, or a stream go on."""


class StreamChecks:
    """What is checked as it happens."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._begun: set[tuple[str, int]] = set()

    def problem(self, text: str) -> None:
        """Note that a promise is broken."""
        self._world.checks.problem(text)

    def on_handed(self, pooled: Pooled, slot: ConcurrentSlot, number: int) -> None:
        """See that a suspect runs with nothing that it could be taken for."""
        others = [one for id_, one in slot._under_way.items() if id_ != number and not one.is_begun]
        blamed = [c for one in [slot._under_way[number], *others] for c in one.calls if c.blame]
        if others and blamed:
            self.problem(f"{pooled.life} runs a suspect beside others")
        most = slot._manifest.batching.concurrency
        if len(slot._under_way) > most:
            self.problem(f"{pooled.life} has more than {most} under way")

    def on_made(self, life: str, order: Order, pieces: int) -> None:
        """See that no more pieces are made than the reader has room for, and none for nobody."""
        asked = self._world.ledger.by_nonce[order.nonce]
        kind = self._world.schedule.models[asked.ask.model].kind
        most = asked.pieces + WINDOW + (OVERRUN + 1 if kind == "engine" else 0)
        if pieces > most:
            self.problem(
                f"{life} made {pieces} pieces for {order.nonce}, which has room for {most}"
            )
        is_late = asked.has_left and self._world.loop.time() > asked.left_at + LEAVE_S
        if is_late and {struck.fault.kind for struck in self._world.faults} <= QUIET_FAULTS:
            self.problem(f"{life} goes on with {order.nonce}, whose reader has left")

    def on_begun(self, life: str, order: Order) -> None:
        """See that a stream that has given pieces is not run again, where it was asked once."""
        asked, ledger = self._world.ledger.by_nonce[order.nonce], self._world.ledger
        submitted = ledger.submissions[life, asked.ask.id]
        if asked.pieces and (life, order.nonce) in self._begun and submitted == 1:
            self.problem(f"{life} ran {order.nonce} again after it had given pieces")
        self._begun.add((life, order.nonce))

    def on_end(self, asked: Asked, end: End) -> None:
        """See that an answer that is whole has all of its pieces."""
        ask, model = asked.ask, self._world.schedule.models[asked.ask.model]
        if not asked.pieces == end.pieces == ask.pieces:
            self.problem(f"{ask.id} ended with {asked.pieces} of {ask.pieces} pieces, says {end}")
        if (end.model_name, end.model_version) != (model.name, model.version):
            self.problem(f"{ask.id} was answered by {end}")

    def on_answer(self, asked: Asked) -> None:
        """See that an answer that has begun ended in time, and as it may."""
        ask, model = asked.ask, self._world.schedule.models[asked.ask.model]
        due = min(asked.last_piece_at + model.piece_timeout_s, asked.at + model.stream_timeout_s)
        late_s = asked.answered_at - due
        if asked.code == "deadline_exceeded" and late_s < -0.001:
            self.problem(f"{ask.id} was called late {-late_s:.3f} s too early")
        if late_s > GRACE_S and not self._world.checks.was_frozen(asked):
            self.problem(f"{ask.id} ended {late_s:.3f} s after its deadline: {asked.code}")
        allowed = self._allowed(asked)
        if asked.code not in allowed:
            detail = getattr(asked.outcome, "detail", "")
            what = f"{ask.id} ({ask.act}) ended after {asked.pieces} pieces"
            self.problem(f"{what} with {asked.code} ({detail}), not one of {allowed}")

    def _allowed(self, asked: Asked) -> set[str]:
        """Give the codes with which an answer may end that has begun."""
        ask, world = asked.ask, self._world
        model = world.schedule.models[ask.model]
        allowed = {"ok"} if not ask.act else set(OF_ACT[ask.act])
        if ask.act in ("exit", "oom"):
            allowed = {"stream_broken"}
        if ask.act == "hang":
            allowed.add("stream_broken")
        if any(a.ask.act == "hang" and a.ask.model == ask.model for a in world.ledger.asked):
            allowed.add("deadline_exceeded")  # the runner of both gives no more pieces
        since = asked.first_piece_at
        if any(
            since - 1.0 <= death.at <= asked.answered_at and death.life.endswith(f":{model.name}")
            for death in world.ledger.deaths
        ):
            allowed.add("stream_broken")
        for struck in world.faults:
            kind = struck.fault.kind
            if kind in QUIET_FAULTS or struck.since > asked.answered_at or since > struck.until:
                continue
            allowed |= {"stream_broken", *SILENT}
        slowest_s = 0.0
        if ask.reads_per_s:
            slowest_s = (WINDOW + (HIGH_BYTES - LOW_BYTES) / 80) / ask.reads_per_s
        whole_s = ask.pieces * (ask.piece_ms / 1000 + (1 / ask.reads_per_s if slowest_s else 0))
        if (
            ask.stops_at is not None
            or slowest_s > model.piece_timeout_s / 2
            or whole_s > model.stream_timeout_s / 2
            or model.stream_timeout_s < ROOMY_S
        ):
            allowed.add("deadline_exceeded")
        if model.kind == "engine" and (ask.reads_per_s or ask.stops_at is not None):
            allowed.add("stream_broken")  # it was read too slowly
        if ask.stops_at is not None or ask.leaves_after_s is not None:
            allowed.add("client_gone")
        return allowed


def has_room(slot: Slot) -> bool:
    """Return whether a runner could begin with something."""
    if not slot.is_ready or not slot.batch:
        return slot.is_ready
    if not isinstance(slot, ConcurrentSlot) or slot._suspect is not None:
        return False
    has_suspects = slot._owner.has_suspects
    return not has_suspects and len(slot._under_way) < slot._manifest.batching.concurrency


def judge_leaving(world: World) -> None:
    """See that what nobody waits for any more does not run, where nothing breaks."""
    if not {struck.fault.kind for struck in world.faults} <= SILENT_FAULTS:
        return
    for run in world.ledger.runs:
        asked = world.ledger.by_nonce.get(run.nonce)
        if asked is None or not asked.has_left:
            continue
        if run.life.partition(":")[2] != world.schedule.models[asked.ask.model].name:
            continue  # what has begun goes on, and may call others
        until, model = asked.left_at + LEAVE_S, world.schedule.models[asked.ask.model]
        if model.calls:
            # A runner is busy as long as those that it calls; then the batch that it had already
            # runs, and nothing before that.
            starts = (one.at for one in world.ledger.runs if one.life == run.life)
            is_late = model.max_runners == 1 and any(until < at < run.at for at in starts)
        else:
            is_late = run.at > until + longest_batch_s(world, asked.ask.model)
        if is_late:
            late_s = run.at - asked.left_at
            world.checks.problem(f"{run.life} ran {run.nonce} {late_s:.1f} s after it had left")


def longest_batch_s(world: World, number: int) -> float:
    """Give the longest time that a runner of a model is busy, and has the next batch already."""
    model = world.schedule.models[number]
    took_ms = [
        -(-ask.instances // model.max_batch_size) * model.base_ms
        + ask.instances * (model.each_ms + ask.work_ms)
        for ask in world.schedule.events
        if isinstance(ask, Ask) and ask.model == number
    ]
    return 1.1 * max(took_ms, default=0.0) / 1000


def judge_streams(world: World) -> None:
    """See that nothing of a stream is left lying once all is over."""
    problem = world.checks.problem
    for front in world.fronts:
        transport = getattr(front, "transport", None)
        incoming = getattr(transport, "_streams", None)
        if incoming is not None and (incoming._runs or incoming._ended is not None):
            problem(f"{front.name} has streams left")
        notices = getattr(transport, "_notices", None)
        if notices is not None and (notices._left or notices._granted):
            problem(f"{front.name} has notices left")
    for worker in world.workers:
        pieces = worker.pieces
        if pieces is not None and (pieces._open or pieces._waiting):
            problem(f"{worker.name} has streams left")
    for pooled in world.pools():
        for slot in pooled.pool._runners.slots:
            if isinstance(slot, ConcurrentSlot) and slot.batch:
                problem(f"{pooled.life} has batches under way")
        for runner in pooled.launcher.live:
            leaks: list[str] = getattr(runner, "leaks", list)()
            if leaks:
                problem(f"a runner of {pooled.life} still has {', '.join(leaks)}")
