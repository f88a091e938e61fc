"""Mutants of answers in pieces, and of what becomes of requests whose callers have left."""

from __future__ import annotations

from tests.simulation.mutants.mutant import Edit, Mutant, one

SENDER = "transports.amqp.pieces:PieceSender"
INCOMING = "transports.amqp.streams:IncomingStreams"
DEPARTURES = "transports.amqp.departures:Departures"
SLOT = "pool.concurrent:ConcurrentSlot"
OUTLETS = "runner.concurrent.outlets"

STREAMS: tuple[Mutant, ...] = (
    one(
        "a piece is sent twice",
        f"{SENDER}._put",
        "before + pieces",
        "before + pieces[:1] * 2",
        seed=3,
    ),
    one(
        "the end of a stream is lost on its way",
        f"{SENDER}._on_settled",
        "self._put(stream, [], is_last=True, failure=failure)",
        "failure",
        seed=3,
    ),
    one(
        "a runner does not tell the end of a stream",
        f"{OUTLETS}:Gathered.end",
        "self._ended[id_] = failure",
        "self._ended.update({id_: failure} if failure else {})",
        seed=3,
    ),
    one(
        "credit is lost",
        "gateway.streams:StreamResponse._on_drained",
        "grant(owed)",
        "grant(owed - 1)",
        seed=49,
    ),
    one(
        "credit is given twice",
        f"{OUTLETS}:WireOutlet.grant",
        "+= pieces",
        "+= 2 * pieces",
        seed=10,
    ),
    one(
        "a slow reader does not hold up its stream",
        "gateway.streams:StreamResponse.on_pieces",
        "if not self._writer.is_paused:",
        "if True:",
        seed=17,
    ),
    one(
        "a worker ignores that callers have left",
        f"{DEPARTURES}._drop_call",
        'call.settle(JobCancelled() if is_cancelled else Left("the caller has left"))',
        "pass",
        seed=10,
    ),
    one(
        "a worker forgets who has left before their requests come",
        f"{DEPARTURES}._remember",
        "self._left[mark] = now",
        "self._left[b''] = now",
        seed=63,
    ),
    one(
        "a model is not told that its reader has left",
        "runner.concurrent.serving:Serving._leave",
        "self._hosted.source.leave(outlet)",
        "pass",
        seed=10,
    ),
    one(
        "a stream that has begun is run again",
        "pool.outcomes:Outcomes.lose",
        "elif call.stream is not None and call.stream.received:",
        "elif False:",
        seed=43,
    ),
    one(
        "the deadline is that of the first piece",
        "dispatch.streams:Streams._on_pieces",
        "call.deadline = min(self._clock() + limits.piece_timeout_s, last)",
        "pass",
        seed=17,
    ),
    one(
        "a first piece may come after the time of all",
        "dispatch.streams:Streams.start",
        "min(timeout_s, known.limits.stream_timeout_s)",
        "timeout_s",
        seed=241,
    ),
    one(
        "the time of all pieces has no end",
        "dispatch.streams:Streams._on_pieces",
        "min(self._clock() + limits.piece_timeout_s, last)",
        "self._clock() + limits.piece_timeout_s",
        seed=357,
    ),
    one(
        "what a runner has left keeps its place",
        f"{SLOT}._on_part",
        "self._take(part.id) if part.is_last",
        "self._take(part.id) if part.is_last and not self._under_way[part.id].is_left",
        seed=10,
    ),
    one(
        "suspects run beside others",
        f"{SLOT}.look_for_room",
        "has_room = all(one.is_begun for one in under_way.values())",
        "pass",
        seed=64,
    ),
    one(
        "a gateway does not forget runs",
        f"{INCOMING}.drop",
        "self._runs.pop(pending.key, None) is not None",
        "pending.key in self._runs",
        seed=3,
    ),
    Mutant(
        "pieces of two runs are mixed",
        [
            Edit(f"modelyard.{INCOMING}._on_piece", "if run.number != piece.run:", "if False:"),
            Edit(
                f"modelyard.{INCOMING}._on_piece",
                "elif not stream.put(piece.first, piece.pieces):",
                "elif not stream.put(stream.received, piece.pieces):",
            ),
        ],
        seed=215,
    ),
    one(
        "a lost session does not end what has begun",
        f"{INCOMING}.break_off",
        "if is_begun(pending.call):",
        "if False:",
        seed=241,
    ),
    one(
        "a stream that has ended asks for more",
        f"{INCOMING}.drop",
        "stream.ask_more = None",
        "pass",
        seed=806,
    ),
)
