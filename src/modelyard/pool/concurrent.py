"""A slot whose runner has several batches and streams under way.

Path of a request: ``Pool._feed`` calls ``run`` with a batch, which goes through
``runner_process.py`` to ``runner/concurrent/serving.py``. What comes back goes to ``_on_reply``:
the answers of a batch, or the next pieces of streams.

If all calls of a batch are settled by others, because the clients have left or it is too late, the
runner is told to leave it. It still answers, which frees the place; a runner that does not, hangs.
One that does not stop for cancelled jobs is ended once it has nothing else.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import count

from modelyard.core.call import Call
from modelyard.core.errors import Failure, StreamBroken, from_failure
from modelyard.core.messages import Begin, Done, Grant, Leave, Part, Pieces, Progress
from modelyard.core.stream import ENDED
from modelyard.pool.blame import Cause
from modelyard.pool.cancelled import are_cancelled
from modelyard.pool.origins import origins_of
from modelyard.pool.slot import Slot

LEAVE_GRACE_S = 5.0  # in which a runner that is told to leave a call must have done so


class UnderWay:
    """A batch or a stream that the runner has.

    Attributes:
        calls: Its calls; of a stream, one.
        started: When it began.
        hung_at: From when on the runner hangs, if it still has this.
        is_left: Whether nobody waits for it, and the runner was told.
        unwanted_until: If it was cancelled, how long the runner may go on with it.
    """

    __slots__ = ("calls", "hung_at", "is_left", "started", "unwanted_until")

    def __init__(self, calls: list[Call], *, started: float, hung_at: float) -> None:
        self.calls = calls
        self.started = started
        self.hung_at = hung_at
        self.is_left = False
        self.unwanted_until = math.inf

    @property
    def is_begun(self) -> bool:
        """Whether it is a stream that has given pieces, and so will not run again."""
        stream = self.calls[0].stream
        return stream is not None and stream.received > 0


class ConcurrentSlot(Slot):
    """One runner's place; see ``Slot``."""

    _ids = count()
    _under_way: dict[int, UnderWay]
    _suspect: int | None = None  # the id of the suspect that runs

    def run(self, batch: list[Call]) -> None:
        """Hand a batch to the runner, which must have room."""
        assert self._runner is not None
        if not self.batch:
            self._under_way, self.batch, self._suspect = {}, [], None
        now, id_ = self._clock(), next(self._ids)
        stream = batch[0].stream
        self.started = now
        hung_at = self._patience.hung_at((call.deadline for call in batch), begun=now)
        self._under_way[id_] = UnderWay(batch, started=now, hung_at=hung_at)
        self.batch += batch
        if self._owner.is_suspect(batch[0]):
            self._suspect = id_
        forms = [call.request.form for call in batch]
        is_plain = all(form == "json" for form in forms)
        inputs = [call.request.input for call in batch]
        forms = [] if is_plain else forms
        origins = origins_of(batch, self._manifest, self._spans, self._specials)
        self._runner.send(Begin(id_, inputs, forms, stream is not None, origins))
        if stream is not None:
            stream.ask_more = partial(self._ask_more, id_)
        for call in batch:
            call.watch(partial(self._on_settled, id_))
        self._metrics.batch_started([now - call.arrived for call in batch])
        self.look_for_room()

    def look_for_room(self) -> None:
        """See ``Slot``.

        While suspects wait there is none beside others, and with one of them none at all, so that
        they run alone. Streams that have given pieces do not count: they are not run again, so they
        need not be told apart from the culprit, and they may take hours.
        """
        under_way = self._under_way if self.batch else {}
        has_room = self.is_ready and len(under_way) < self._manifest.batching.concurrency
        if has_room and (self._suspect is not None or self._owner.has_suspects):
            has_room = all(one.is_begun for one in under_way.values())
        self._owner.on_room(self, has_room=has_room)

    def _ask_more(self, id_: int, pieces: int) -> None:
        if self._runner is not None and id_ in self._under_way:
            self._runner.send(Grant(id_, pieces))

    def _on_progress(self, progress: Progress) -> None:
        if self.batch and (one := self._under_way.get(progress.id)) is not None:
            self._owner.on_progress(one.calls, progress)

    def _on_settled(self, id_: int, _: Call) -> None:
        """Have the runner leave what nobody waits for any more."""
        one = self._under_way.get(id_)
        if one is None or one.is_left or not all(call.is_settled for call in one.calls):
            return
        one.is_left = True
        if are_cancelled(one.calls):
            one.unwanted_until = self._clock() + self._cancel_grace_s
        else:
            one.hung_at = self._clock() + LEAVE_GRACE_S
        if self._runner is not None:
            self._runner.send(Leave([id_]))

    def _on_reply(self, reply: Done | Pieces) -> None:
        if isinstance(reply, Done):
            one = self._take(reply.id)
            if self._spans is not None:
                self._spans.ran(one.calls, one.started, reply.answers)
            outcomes = reply.answers.outcomes
            if self._runner is not None and any(isinstance(o, Failure) for o in outcomes):
                self._runner.read_output()  # what it logged, while the ids are known here
            self._owner.on_done(self, one.calls, reply.answers)
        else:
            for part in reply.parts:
                self._on_part(part)
        self.look_for_room()

    def _on_part(self, part: Part) -> None:
        """Pass on the next pieces of a stream; the last part settles its call."""
        one = self._take(part.id) if part.is_last else self._under_way[part.id]
        call = one.calls[0]
        stream = call.stream
        assert stream is not None
        if not call.is_settled and part.pieces:
            now = self._clock()
            if not stream.received:
                call.deadline = now + self._manifest.limits.stream_timeout_s
                one.hung_at = call.deadline + LEAVE_GRACE_S
            if not stream.put(part.first, part.pieces):
                call.settle(StreamBroken("pieces of the answer were lost"))
        if part.is_last:
            if self._spans is not None:
                self._spans.ran(one.calls, one.started, None)
            call.settle(ENDED if part.failure is None else from_failure(part.failure))

    def _take(self, id_: int) -> UnderWay:
        """Remove what has ended."""
        one = self._under_way.pop(id_)
        if id_ == self._suspect:
            self._suspect = None
        for call in one.calls:
            self.batch.remove(call)
        now = self._clock()
        took_s = now - one.started
        if one.calls[0].stream is None:
            self._patience.returned(took_s)
        self.took_s = took_s / (len(self._under_way) + 1)
        self.idle_since = now
        return one

    def is_hung(self, now: float) -> bool:
        """See ``Slot``."""
        return bool(self.batch) and any(now >= one.hung_at for one in self._under_way.values())

    def end(self, cause: Cause) -> None:
        """See ``Slot``."""
        self.started = min(one.started for one in self._under_way.values())
        super().end(cause)

    def is_unwanted(self, now: float) -> bool:
        """See ``Slot``. One that still has something for others is left alone."""
        under_way = self._under_way.values() if self.batch else ()
        return any(now >= one.unwanted_until for one in under_way) and all(
            one.is_left for one in under_way
        )

    def late(self, now: float) -> list[Call]:
        """See ``Slot``."""
        return [call for call in self.batch if call.deadline <= now]

    def _take_all(self) -> tuple[list[Call], list[Call]]:
        self._under_way = {}
        return super()._take_all()
