"""What happens in a simulation: a list of events, which can be shortened and printed."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from modelyard.core.batch import Priority
from modelyard.core.messages import Form
from modelyard.core.trail import find_circle

Act = Literal["", "raise", "refuse", "exit", "oom", "hang"]
"""What an input makes its runner do beside answering: ``refuse`` is no input that the model takes,
``oom`` has the kernel kill the runner."""

Instance = tuple[int, Act, float]
"""What a client sends: a nonce, what it does, and how many milliseconds it takes by itself."""

Kind = Literal["", "async", "generator", "engine"]
"""How a model makes pieces; empty for one that answers one batch at a time."""


class Order(msgspec.Struct, frozen=True, array_like=True):
    """What a client sends to a model of a ``Kind``: an ``Instance``, and how many pieces it wants,
    before which of them it does what ``act`` says, and how many milliseconds each takes.
    """

    nonce: int
    act: Act
    work_ms: float
    pieces: int
    breaks_at: int
    piece_ms: float


Piece = tuple[int, int, int, str]
"""What such a model gives: the nonce, the piece's number, that of the run, and ballast."""

PIECE_BYTES = 80

FaultKind = Literal[
    "kill_runner", "load_fails", "load_crashes", "load_hangs", "no_room",
    "kill_worker", "freeze_worker", "stop_worker", "add_worker", "sleep",
    "kill_gateway", "freeze_gateway", "stop_gateway",
    "restart_broker", "crash_broker", "hang_broker", "alarm",
    "delete_queue", "delete_own_queue", "unbind", "full_queue", "junk",
    "reset", "cut", "stall", "silent", "half_open", "refuse", "damage",
    "cache_slow", "cache_away", "cache_full", "cache_damaged",
    "database_away", "database_dumb",
]  # fmt: skip


class Ask(msgspec.Struct, frozen=True):
    """A client asks.

    ``nonce`` is that of the first instance; ``work_ms`` what it takes by itself; ``leaves_after_s``
    is when the client is gone; ``padding_bytes`` is white space, of input and answer alike.

    ``pieces``: how many the answer has, see ``Order``; 0 for one that is wanted as a whole. The
    client reads ``reads_per_s``, 0 for as fast as they come, and none after ``stops_at``.
    """

    at: float
    id: str
    nonce: int
    model: int
    gateway: int = 0
    instances: int = 1
    act: Act = ""
    work_ms: float = 0.0
    timeout_s: float = 30.0
    priority: Priority = "normal"
    is_bypass: bool = False
    leaves_after_s: float | None = None
    form: Form = "json"
    padding_bytes: int = 0
    pieces: int = 0
    breaks_at: int = 0
    piece_ms: float = 0.0
    reads_per_s: float = 0.0
    stops_at: int | None = None


class JobAsk(msgspec.Struct, frozen=True):
    """A client submits a job, until it is accepted. See ``Order`` in ``gateway/orders.py``."""

    at: float
    id: str
    nonce: int
    model: int
    gateway: int = 0
    act: Act = ""
    work_ms: float = 0.0
    timeout_s: float = 30.0
    priority: int = 0
    delay_s: float = 0.0
    expires_s: float | None = None
    max_attempts: int | None = None
    cancel_after_s: float | None = None


class Fault(msgspec.Struct, frozen=True):
    """Something breaks. ``whose`` is the number of a gateway, worker or model; ``amount`` says how
    much, in the units of the kind."""

    at: float
    kind: FaultKind
    whose: int = 0
    lasts_s: float = 0.0
    amount: int = 0


Event = Ask | JobAsk | Fault


class Struck(NamedTuple):
    """A fault that has happened: until when all may take to be well, and which codes it excuses."""

    since: float
    until: float
    fault: Fault
    allowed: set[str]


class Model(msgspec.Struct, frozen=True):
    """A target, and what serves it."""

    name: str
    version: str
    number: int
    workers: int
    max_batch_size: int
    batch_wait_ms: float
    min_runners: int
    max_runners: int
    idle_s: float
    scale_to_zero: bool
    cache_ttl_s: float
    timeout_s: float
    max_in_flight: int
    load_timeout_s: float
    load_s: float
    base_ms: float
    each_ms: float
    kind: Kind = ""
    concurrency: int = 0
    piece_timeout_s: float = 30.0
    stream_timeout_s: float = 60.0
    calls: tuple[str, ...] = ()

    def answer(self, nonce: int) -> int:
        """Give what it answers to ``nonce``."""
        return nonce * 3 + 1 + 10_000_000 * (self.number + 1)


class Schedule(msgspec.Struct, frozen=True):
    """One simulation: what there is, and what happens.

    ``is_heavy``: more is asked than can be run in time.
    """

    seed: str
    is_embedded: bool
    gateways: int
    models: list[Model]
    latency_s: tuple[float, float]
    confirm_delay_s: float
    skew_s: float
    has_far_cache: bool
    is_heavy: bool
    events: list[Event]

    def is_in_circle(self, model: Model) -> bool:
        """Return whether a model calls itself, by way of others."""
        return bool(find_circle(model.name, {one.name: one.calls for one in self.models}))

    def calls_into_circle(self, model: Model) -> bool:
        """Return whether a model calls one that is in a circle, by way of others or not."""
        by_name = {one.name: one for one in self.models}
        called = [by_name[name] for name in model.calls] if not self.is_in_circle(model) else []
        return any(self.is_in_circle(one) or self.calls_into_circle(one) for one in called)


def encode_input(ask: Ask, model: Model) -> bytes:
    """Give what a client sends."""
    nonces = range(ask.nonce, ask.nonce + ask.instances)
    if model.kind:
        more = (ask.act, ask.work_ms, ask.pieces, ask.breaks_at, ask.piece_ms)
        return msgspec.json.encode([Order(nonce, *more) for nonce in nonces])
    rows: list[Instance] = [(nonce, ask.act, ask.work_ms) for nonce in nonces]
    if ask.form == "msgpack":
        return msgspec.msgpack.encode(rows)
    return b" " * ask.padding_bytes + msgspec.json.encode(rows)
