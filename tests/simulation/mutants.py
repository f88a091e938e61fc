"""Mutants: defects put into the product on purpose, each of which the oracle must find.

A mutant replaces a piece of a function's source. A piece that is not there any more fails loudly:
the function has changed, and so must the mutant.
"""

from __future__ import annotations
import __future__

import contextlib
import importlib
import inspect
import textwrap
import time
from collections.abc import Iterator, Sequence
from types import FunctionType
from typing import Any, NamedTuple

from tests.simulation.explore import run
from tests.simulation.scenario import draw
from tests.simulation.schedule import Fault, FaultKind


class Edit(NamedTuple):
    """In ``place`` (``module:Class.function``) stands ``new`` instead of ``old``."""

    place: str
    old: str
    new: str


class Mutant(NamedTuple):
    """A defect.

    ``seed`` is the first that finds it. ``needs``: it shows only under one of these faults, so
    seeds without any are passed over.
    """

    name: str
    edits: Sequence[Edit]
    seed: int = 0
    needs: Sequence[FaultKind] = ()


def _one(
    name: str,
    place: str,
    old: str,
    new: str,
    *,
    seed: int = 0,
    needs: Sequence[FaultKind] = (),
) -> Mutant:
    return Mutant(name, [Edit(f"modelyard.{place}", old, new)], seed, needs)


CALL = "core.call:Call"
BACKLOG = "core.batch:Backlog"
DISPATCH = "dispatch.dispatch:Dispatch"
POOL = "pool.pool:Pool"
WAITING = "pool.waiting:Waiting"
RUNNERS = "pool.runners:Runners"
SLOT = "pool.slot:Slot"
TRANSPORT = "transports.amqp.transport:AmqpTransport"
REPLIES = "transports.amqp.replies:Replies"
CONNECTION = "transports.amqp.connection:Connection"
LANE = "transports.amqp.lanes:Lane"

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "a bundle is acked before its answers are confirmed",
        [
            Edit(
                "modelyard.transports.amqp.consumer:AmqpConsumer._on_bundle",
                "replies.open.add(delivery)",
                "replies.open.add(delivery); replies._session.consuming.ack(delivery.tag)",
            ),
            Edit(
                f"modelyard.{REPLIES}._on_confirmed",
                "self._session.consuming.ack(delivery.tag)",
                "pass",
            ),
        ],
        seed=127,
    ),
    _one("what was sent is not sent again", f"{TRANSPORT}._on_lost", "sent[lane]", "[]", seed=10),
    Mutant(
        "a second answer is let through",
        [
            Edit(f"modelyard.{CALL}.settle", "if self.outcome is not None:", "if False:"),
            Edit(
                f"modelyard.{CALL}.settle",
                "watchers, self._watchers = self._watchers, []",
                "watchers = self._watchers",
            ),
        ],
        seed=1,
    ),
    _one("blame is lost", f"{POOL}.on_lost", "call.blame, verdict", "_, verdict", seed=1),
    _one(
        "the backlog ignores deadlines",
        f"{BACKLOG}.take",
        "elif deadline <= now:",
        "elif False:",
        seed=5,
    ),
    _one(
        "suspects run late",
        f"{WAITING}._next_suspect",
        "if suspect.deadline > now:",
        "if True:",
        seed=7,
    ),
    _one(
        "what lies before a runner runs late",
        f"{SLOT}.run_next",
        "[call.request.deadline for call in batch]",
        "[]",
        seed=28,
    ),
    _one(
        "nobody is told that the deadline has passed",
        "dispatch.expiry:Expiry._tick",
        'call.settle(DeadlineExceeded("there was no answer by the deadline"))',
        "pass",
        seed=1,
    ),
    _one(
        "a slot is leaked after a crash",
        f"{RUNNERS}.took_up",
        "self.idle.append(slot)",
        "self.state == 'recovering' or self.idle.append(slot)",
        seed=1,
    ),
    _one(
        "a bundle's place is not free again when its answers come together",
        f"{REPLIES}._on_confirmed",
        "delivery.unconfirmed -= answered",
        "delivery.unconfirmed -= 1",
        seed=2,
    ),
    _one(
        "a bundle of a gateway that is gone is not acked",
        f"{REPLIES}._on_confirmed",
        'self._metrics.broker_event("orphan")',
        "return",
        seed=16,
    ),
    _one(
        "keys do not hold the target",
        "dispatch.catalog:Entry.update",
        "model=model, digest=digest",
        'model="", digest="same"',
        seed=2,
    ),
    _one(
        "a flight is never removed",
        "dispatch.flights:Flights.start",
        "del self._flights[place]",
        "pass",
        seed=1,
    ),
    _one(
        "identical requests share nothing",
        "dispatch.flights:Flights.find",
        'return self._flights.get((key, "high")) or self._flights.get((key, priority))',
        "return None",
        seed=15,
    ),
    _one(
        "an alarm is waited for",
        "transports.amqp.selfping:SelfPing._ping",
        "self._on_blocked()",
        "pass",
        needs=("alarm",),
        seed=297,
    ),
    _one("in_flight is not decremented", "dispatch.catalog:Entry.left", "-= 1", "-= 0", seed=1),
    _one(
        "returned messages are ignored",
        f"{CONNECTION}._on_event",
        "self._confirms.settle(event.number, ReturnedError(event.why))",
        "pass",
        needs=("delete_queue",),
        seed=42,
    ),
    _one(
        "refused messages are ignored",
        f"{CONNECTION}._on_confirmed",
        'NackedError("the queue takes no more")',
        "None",
        needs=("full_queue",),
        seed=326,
    ),
    _one(
        "a confirm of several is taken for one",
        f"{CONNECTION}._on_confirmed",
        "if event.is_multiple:",
        "if False:",
        seed=2,
    ),
    _one(
        "everything is sent twice",
        f"{TRANSPORT}._depart",
        "confirmed.add_done_callback(partial(self._on_confirmed, session, bundle))",
        "confirmed.add_done_callback(partial(self._on_confirmed, session, bundle));"
        " bundle.departed and setattr(bundle, 'departed', 0.0) is None and self._depart(bundle)",
        seed=15,
    ),
    _one("priority is ignored", f"{BACKLOG}.take", "% NORMAL_EVERY == 0", ">= 0", seed=5),
    _one(
        "the limit of a batch is ignored",
        f"{BACKLOG}.take",
        "item.instances <= room",
        "True",
        seed=1,
    ),
    _one("what hangs is never ended", f"{POOL}._tick", "slot.kill_hung()", "pass", seed=1),
    _one(
        "what lies before a runner is lost with it",
        f"{POOL}.on_lost",
        "in lost.ahead:",
        "in ():",
        seed=38,
    ),
    _one(
        "suspects run together",
        f"{POOL}.on_lost",
        "self._waiting.add(call, is_suspect=True)",
        "self._waiting.add(call)",
        seed=1,
    ),
    _one(
        "a lost session is not opened again",
        "transports.amqp.session:Supervisor.run",
        "backoff_s = min(backoff_s * 2, LONGEST_BACKOFF_S)",
        "await asyncio.Event().wait()",
        seed=2,
    ),
    _one(
        "answers are given in another order",
        f"{POOL}.on_answers",
        "zip(batch, answers.outcomes, strict=True)",
        "zip(batch, reversed(answers.outcomes), strict=True)",
        seed=1,
    ),
    _one(
        "a lane forgets its timer",
        f"{LANE}._schedule",
        "elif self._flush_later is None:",
        "elif False:",
        seed=2,
    ),
    _one(
        "a lane does not forget what was lost",
        f"{LANE}.close",
        "self._under_way = self._unanswered = 0",
        "pass",
        seed=10,
    ),
    _one(
        "a lane does not forget what is answered",
        f"{LANE}.release",
        "self._under_way -= 1",
        "pass",
        seed=2,
    ),
    _one(
        "missing pongs are ignored",
        "transports.amqp.selfping:SelfPing._ping",
        "elif now - self._heard > TIMEOUT_S:",
        "elif False:",
        needs=("unbind", "silent", "half_open"),
        seed=81,
    ),
    _one(
        "silence is ignored",
        f"{CONNECTION}._tick",
        "> 2 * HEARTBEAT_S",
        "> 1e9",
        needs=("half_open", "silent"),
        seed=188,
    ),
    _one(
        "a worker that cannot load refuses what another could run",
        "transports.amqp.consumer:_on_outcome",
        "if isinstance(outcome, ShuttingDown | ModelNotReady):",
        "if False:",
        needs=("load_fails", "no_room", "load_crashes", "load_hangs"),
        seed=2,
    ),
    _one(
        "who joined a flight has its starter's deadline",
        f"{DISPATCH}._on_landed",
        "isinstance(outcome, DeadlineExceeded) and has_time_left",
        "False",
        seed=2,
    ),
    _one(
        "a batch that waits to fill is forgotten",
        f"{POOL}._feed",
        "self._loop.call_later(left_s, self._wake)",
        "pass",
        seed=1,
    ),
    _one(
        "a runner that is free again is not fed",
        f"{POOL}._after_batch",
        "self._wake()",
        "pass",
        seed=1,
    ),
    _one(
        "what was lost with its queue is not sent again",
        f"{TRANSPORT}.resend",
        "self._resend(target, departed_before)",
        "pass",
        needs=("delete_queue",),
        seed=527,
    ),
    _one(
        "what is late is not counted",
        f"{DISPATCH}._on_settled",
        "self._metrics.expired(call.entry.target)",
        "pass",
        seed=1,
    ),
    _one(
        "a pool grows beyond its limit",
        f"{RUNNERS}.scale",
        "len(self.slots) < self._manifest.scaling.max_runners",
        "True",
        seed=1,
    ),
    _one(
        "a worker's status is not heard after the first",
        "transports.amqp.known:Known.hear",
        "Heard(now, status)",
        "Heard(before.at if before else now, status)",
        seed=4,
    ),
    _one(
        "a load that failed is not tried again",
        f"{SLOT}.keep_running",
        "await asyncio.wait_for(self._leaving.wait(), backoff_s)",
        "await self._leaving.wait()",
        needs=("load_fails", "no_room", "load_crashes", "load_hangs"),
        seed=1,
    ),
    _one(
        "what failed to load is not left until it is loaded",
        f"{RUNNERS}.took_up",
        'self.enter("ready")',
        "pass",
        seed=1,
    ),
)


def _find(place: str) -> tuple[Any, str, FunctionType, Any]:
    """Give where a function is, its name, itself, and its module."""
    module_name, _, path = place.partition(":")
    module = importlib.import_module(module_name)
    owner: Any = module
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    function = vars(owner)[name]
    assert isinstance(function, FunctionType), f"{place} is no function"
    return owner, name, function, module


@contextlib.contextmanager
def applied(mutant: Mutant) -> Iterator[None]:
    """Have the defect as long as the ``with`` block."""
    sources: dict[str, str] = {}
    for edit in mutant.edits:
        *_, function, _ = _find(edit.place)
        source = sources.get(edit.place) or textwrap.dedent(inspect.getsource(function))
        assert source.count(edit.old) == 1, f"{edit.place} does not hold once: {edit.old}"
        sources[edit.place] = source.replace(edit.old, edit.new)
    with contextlib.ExitStack() as stack:
        for place, source in sources.items():
            owner, name, function, module = _find(place)
            flags = __future__.annotations.compiler_flag
            made: dict[str, Any] = {}
            code = compile(source, f"<mutant of {place}>", "exec", flags=flags)
            exec(code, vars(module), made)
            setattr(owner, name, made[name])
            stack.callback(setattr, owner, name, function)
        yield


def find(mutant: Mutant, seeds: Sequence[int]) -> tuple[int, str] | None:
    """Give the first seed that finds a mutant, and by what."""
    for seed in seeds:
        schedule = draw(str(seed))
        kinds = {event.kind for event in schedule.events if isinstance(event, Fault)}
        if mutant.needs and kinds.isdisjoint(mutant.needs):
            continue
        with applied(mutant):
            problems = run(schedule).ledger.problems
        if problems and not run(schedule).ledger.problems:
            return seed, problems[0]
    return None


def hunt(seeds: Sequence[int], *, only: str = "") -> int:
    """Show that each mutant whose name holds ``only`` is found; gives the exit code."""
    missed = 0
    chosen = [mutant for mutant in MUTANTS if only in mutant.name]
    for mutant in chosen:
        began = time.monotonic()
        found = find(mutant, seeds)
        took_s = time.monotonic() - began
        if found is None:
            missed += 1
            print(f"MISSED in {len(seeds)} seeds: {mutant.name} ({took_s:.0f} s)", flush=True)
        else:
            print(f"seed {found[0]:4}: {mutant.name} ({found[1]:.90})", flush=True)
    print(f"{len(chosen)} mutants, {missed} missed")
    return 1 if missed else 0
