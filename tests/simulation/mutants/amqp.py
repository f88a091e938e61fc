"""Mutants of the way through the broker."""

from __future__ import annotations

from tests.simulation.mutants.mutant import Edit, Mutant, one

TRANSPORT = "transports.amqp.transport:AmqpTransport"
REPLIES = "transports.amqp.replies:Replies"
CONNECTION = "transports.amqp.connection:Connection"
LANE = "transports.amqp.lanes:Lane"

AMQP: tuple[Mutant, ...] = (
    Mutant(
        "a bundle is acked before its answers are confirmed",
        [
            Edit(
                "modelyard.transports.amqp.consumer:AmqpConsumer._on_bundle",
                "replies.open.add(delivery)",
                "replies.open.add(delivery); replies._session.consuming.ack(delivery.tag)",
            ),
            Edit(
                f"modelyard.{REPLIES}.answered",
                "self._session.consuming.ack(delivery.tag)",
                "pass",
            ),
        ],
        seed=127,
    ),
    one("what was sent is not sent again", f"{TRANSPORT}._on_lost", "sent[lane]", "[]", seed=2),
    one(
        "a bundle's place is not free again when its answers come together",
        f"{REPLIES}.answered",
        "delivery.unconfirmed -= answered",
        "delivery.unconfirmed -= 1",
        seed=2,
    ),
    one(
        "a bundle of a gateway that is gone is not acked",
        f"{REPLIES}._on_confirmed",
        'self._metrics.broker_event("orphan")',
        "return",
        seed=18,
    ),
    one(
        "an alarm is waited for",
        "transports.amqp.selfping:SelfPing._ping",
        "self._on_blocked()",
        "pass",
        needs=("alarm",),
        seed=297,
    ),
    one(
        "returned messages are ignored",
        f"{CONNECTION}._on_event",
        "self._confirms.settle(event.number, ReturnedError(event.why))",
        "pass",
        needs=("delete_queue",),
        seed=943,
    ),
    one(
        "refused messages are ignored",
        f"{CONNECTION}._on_confirmed",
        'NackedError("the queue is full")',
        "None",
        needs=("full_queue",),
        seed=326,
    ),
    one(
        "a confirm of several is taken for one",
        f"{CONNECTION}._on_confirmed",
        "if event.is_multiple:",
        "if False:",
        seed=2,
    ),
    one(
        "everything is sent twice",
        f"{TRANSPORT}._depart",
        "confirmed.add_done_callback(partial(self._on_confirmed, session, bundle))",
        "confirmed.add_done_callback(partial(self._on_confirmed, session, bundle));"
        " bundle.departed and setattr(bundle, 'departed', 0.0) is None and self._depart(bundle)",
        seed=3,
    ),
    one(
        "a lost session is not opened again",
        "transports.amqp.session:Supervisor.run",
        "backoff_s = min(backoff_s * 2, LONGEST_BACKOFF_S)",
        "await asyncio.Event().wait()",
        seed=2,
    ),
    one(
        "a lane forgets its timer",
        f"{LANE}._schedule",
        "elif self._flush_later is None:",
        "elif False:",
        seed=2,
    ),
    one(
        "a lane does not forget what was lost",
        f"{LANE}.close",
        "self._under_way = self._unanswered = 0",
        "pass",
        seed=2,
    ),
    one(
        "a lane does not forget what is answered",
        f"{LANE}.release",
        "self._under_way -= 1",
        "pass",
        seed=2,
    ),
    one(
        "missing pongs are ignored",
        "transports.amqp.selfping:SelfPing._ping",
        "elif now - self._heard > TIMEOUT_S:",
        "elif False:",
        needs=("unbind", "silent", "half_open"),
        seed=81,
    ),
    one(
        "silence is ignored",
        f"{CONNECTION}._tick",
        "> 2 * self._heartbeat_s",
        "> 1e9",
        needs=("half_open", "silent"),
        seed=188,
    ),
    one(
        "a worker that cannot load refuses what another could run",
        "transports.amqp.consumer:_on_outcome",
        "if isinstance(outcome, ShuttingDown | ModelNotReady):",
        "if False:",
        needs=("load_fails", "no_room", "load_crashes", "load_hangs"),
        seed=228,
    ),
    one(
        "what was lost with its queue is not sent again",
        f"{TRANSPORT}.resend",
        "self._resend(target, departed_before)",
        "pass",
        needs=("delete_queue",),
        seed=766,
    ),
    one(
        "a worker's status is not heard after the first",
        "transports.amqp.known:Known.hear",
        "Heard(now, status)",
        "Heard(before.at if before else now, status)",
        seed=4,
    ),
)
