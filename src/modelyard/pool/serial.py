"""A slot whose runner answers one batch at a time.

Path of a request: ``Pool._feed`` calls ``run`` with a batch, which goes to the runner through
``runner_process.py``. The answers come back to ``_on_reply``, which passes them on to
``Pool.on_answers`` together with the calls.
"""

from __future__ import annotations

from modelyard.core.call import Call
from modelyard.core.errors import Failure
from modelyard.core.messages import Answers, Batch, Leave
from modelyard.pool.cancelled import are_cancelled
from modelyard.pool.origins import origins_of
from modelyard.pool.slot import Slot


class SerialSlot(Slot):
    """One runner's place; see ``Slot``."""

    hung_at = 0.0
    _unwanted: list[Call] | None = None  # the batch, if it was cancelled
    _unwanted_until = 0.0

    def run(self, batch: list[Call]) -> None:
        """Hand a batch to the runner, which must be idle."""
        assert not self.batch
        self.batch, self.started = batch, self._clock()
        self._send(batch, [])
        self._note_begin()

    def run_next(self, batch: list[Call]) -> None:
        """Hand a second batch to the runner while it runs one. When the runner gets to it, it drops
        requests that are late by then.
        """
        assert self.batch and not self.ahead
        self.ahead = batch
        self._send(batch, [call.deadline for call in batch])

    def is_hung(self, now: float) -> bool:
        """See ``Slot``."""
        return bool(self.batch) and now >= self.hung_at

    def is_unwanted(self, now: float) -> bool:
        """See ``Slot``. The runner is told, unless it has the next batch already: it takes what it
        is told for what is about the batch that it runs.
        """
        if not (self.batch and are_cancelled(self.batch)):
            self._unwanted = None
            return False
        if self._unwanted is not self.batch:
            self._unwanted, self._unwanted_until = self.batch, now + self._cancel_grace_s
            if self._runner is not None and not self.ahead:
                self._runner.send(Leave([]))
        return now >= self._unwanted_until

    def late(self, now: float) -> list[Call]:
        """See ``Slot``."""
        return [call for call in self.ahead if call.deadline <= now]

    def _note_begin(self) -> None:
        begun = self.started
        self.hung_at = self._patience.hung_at((call.deadline for call in self.batch), begun=begun)
        self._metrics.batch_started([begun - call.arrived for call in self.batch])

    def _send(self, batch: list[Call], deadlines: list[float]) -> None:
        assert self._runner is not None
        requests = [call.request for call in batch]
        is_plain = all(request.form == "json" for request in requests)
        forms = [] if is_plain else [request.form for request in requests]
        inputs = [request.input for request in requests]
        origins = origins_of(batch, self._manifest, self._spans, self._specials)
        self._runner.send(Batch(inputs, forms, deadlines, origins))

    def _on_reply(self, reply: Answers) -> None:
        if self._runner and any(isinstance(outcome, Failure) for outcome in reply.outcomes):
            self._runner.read_output()  # what it logged about them, while their ids are known here
        now = self._clock()
        batch, self.batch, self.ahead = self.batch, self.ahead, []
        if self._spans is not None:
            self._spans.ran(batch, self.started, reply)
        self.took_s, self.model_s = now - self.started, reply.model_s
        self.started = self.idle_since = now
        self._patience.returned(self.took_s)
        if self.batch:
            self._note_begin()
        self._owner.on_answers(self, batch, reply)
