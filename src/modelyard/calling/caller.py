"""The calls of one model in its runner: whose deadline, priority, id and trace they have.

A batch is asked by the callers of several requests. A call for it has the earliest of their
deadlines, since that is when a batch counts as hung (ADR 4), the highest of their priorities, and
the id and trace of the first.
"""

from __future__ import annotations

import contextlib
import math
import random
import time
from collections.abc import Collection, Iterator, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from modelyard.calling.address import parse_address
from modelyard.calling.blocking import BlockingHttp
from modelyard.client.calls import Call, predict_call
from modelyard.client.errors import ModelyardError
from modelyard.client.exchange import Outcome, Reply, Retry, Send, Steps, Wait, advance, exchange
from modelyard.client.forms import Answer
from modelyard.core.batch import Priority
from modelyard.core.called import CallFailed
from modelyard.core.errors import DeadlineExceeded
from modelyard.core.messages import Origin
from modelyard.core.trail import CALLED_BY, Trail, merge_chains

if TYPE_CHECKING:
    from modelyard.calling.awaited import AwaitedHttp

MARGIN_S = 0.05
"""The gateway's answer that the time is over has to come before it is over here."""

PATIENCE_S = 10.0
"""For the model's own example, so long is waited for a model that is just being started."""

USUAL = Retry(attempts=4, base_s=0.05, longest_s=1.0, also_unavailable=False)
"""Whoever asked the first model tries again if there is no capacity: were each model on the way to
do so as well, a crowd would become a larger one."""

PATIENT = Retry(attempts=1000, base_s=0.1, longest_s=0.5)

_RANKS: dict[Priority, int] = {"high": 0, "normal": 1, "low": 2}


class _Asked(NamedTuple):
    """A call that is made."""

    call: Call[Answer]
    steps: Steps
    headers: dict[str, str]
    deadline: float


class Caller:
    """Asks the models that a model may call.

    Args:
        name: Of the model that calls.
        models: Those that it may call.
        url: Of the gateway; empty if none is known.
        key: Sent with each request; empty for none.
        timeout_s: For calls that no request has caused.
    """

    def __init__(
        self, name: str, models: Collection[str], *, url: str, key: str, timeout_s: float
    ) -> None:
        self._name = name
        self._models = models
        self._timeout_s = timeout_s
        self._headers = {"user-agent": "modelyard-model", **({"x-api-key": key} if key else {})}
        self._retry = USUAL
        self._only: Origin | None = None  # of the batch that runs, for threads of the model's own
        self._current: ContextVar[Origin | None] = ContextVar("origin", default=None)
        self._address = parse_address(url) if url else None
        self._blocking = None if self._address is None else BlockingHttp(self._address)
        self._awaited: AwaitedHttp | None = None  # made when it is used: it needs asyncio

    def asked_by(self, origins: Sequence[Origin]) -> None:
        """Note for which requests the model is asked now: those of one batch."""
        chain = merge_chains([origin.trail.chain for origin in origins])
        first = origins[0]
        merged = Origin(
            first.id,
            min(origin.deadline for origin in origins),
            min((origin.priority for origin in origins), key=_RANKS.__getitem__),
            Trail(chain, first.trail.trace),
        )
        self._only = merged
        self._current.set(merged)

    def streams_for(self, origin: Origin) -> None:
        """Note for which request a stream begins. It may go on long after its first piece, so each
        of its calls has a deadline of its own.
        """
        self._only = msgspec.structs.replace(origin, deadline=math.inf)
        self._current.set(self._only)

    @contextlib.contextmanager
    def patient(self) -> Iterator[None]:
        """Wait for models that are being started, as long as the block."""
        self._retry, usual = PATIENT, self._timeout_s
        self._timeout_s = PATIENCE_S
        try:
            yield
        finally:
            self._retry, self._timeout_s = USUAL, usual

    def call(
        self, model: str, instances: Any, *, version: str | None, timeout_s: float | None
    ) -> Any:
        """See ``Model.call``."""
        asked = self._ask(model, instances, version, timeout_s)
        assert self._blocking is not None
        try:
            step = advance(asked.steps, None)
            while not isinstance(step, Reply):
                outcome: Outcome = None
                if isinstance(step, Wait):
                    time.sleep(step.seconds)
                else:
                    request, give_up = _sent(asked, step)
                    outcome = self._blocking.send(request, asked.headers, give_up=give_up)
                step = advance(asked.steps, outcome)
            return asked.call.read(step).predictions
        except ModelyardError as error:
            raise self._failed(model, error) from error

    async def acall(
        self, model: str, instances: Any, *, version: str | None, timeout_s: float | None
    ) -> Any:
        """See ``Model.acall``."""
        import asyncio

        asked = self._ask(model, instances, version, timeout_s)
        if self._awaited is None:
            from modelyard.calling.awaited import AwaitedHttp

            assert self._address is not None
            self._awaited = AwaitedHttp(self._address)
        try:
            step = advance(asked.steps, None)
            while not isinstance(step, Reply):
                outcome: Outcome = None
                if isinstance(step, Wait):
                    await asyncio.sleep(step.seconds)
                else:
                    request, give_up = _sent(asked, step)
                    outcome = await self._awaited.send(request, asked.headers, give_up=give_up)
                step = advance(asked.steps, outcome)
            return asked.call.read(step).predictions
        except ModelyardError as error:
            raise self._failed(model, error) from error

    def _ask(
        self, model: str, instances: Any, version: str | None, timeout_s: float | None
    ) -> _Asked:
        """Return the call, ready to be made.

        Raises:
            CallFailed: It may not be made, or there is no time left.
        """
        if model not in self._models:
            known = ", ".join(self._models) or "none"
            text = f"[calls] models in model.toml of {self._name} does not name it, but {known}"
            raise CallFailed(text, caller=self._name, model=model, code="undeclared")
        if self._address is None:
            text = "no gateway is known here; set gateway_url (MODELYARD_GATEWAY_URL)"
            raise CallFailed(text, caller=self._name, model=model, code="unconfigured")
        origin, now = self._current.get() or self._only, time.monotonic()
        own = now + self._timeout_s
        deadline = own if origin is None or origin.deadline == math.inf else origin.deadline
        if timeout_s is not None:
            deadline = min(deadline, now + timeout_s)
        left_s = deadline - now
        if left_s <= 0:
            text, code = "there was no time left to ask it", DeadlineExceeded.code
            raise CallFailed(text, caller=self._name, model=model, code=code)
        left_s -= min(MARGIN_S, left_s / 20)
        call = predict_call(
            model,
            instances,
            version=version,
            timeout_s=left_s,
            priority=None if origin is None else origin.priority,
            fresh=False,
        )
        steps = exchange(
            timeout_s=left_s, retry=self._retry, now=time.monotonic, chance=random.random
        )
        return _Asked(call, steps, self._headers_for(origin), deadline)

    def _headers_for(self, origin: Origin | None) -> dict[str, str]:
        if origin is None:
            return self._headers | {CALLED_BY: self._name}
        headers = self._headers | {CALLED_BY: origin.trail.chain, "x-request-id": origin.id}
        if origin.trail.trace:
            headers["traceparent"] = origin.trail.trace
        return headers

    def _failed(self, model: str, error: ModelyardError) -> CallFailed:
        return CallFailed(
            error.detail,
            caller=self._name,
            model=model,
            code=error.code,
            status=error.status,
            retry_after_s=error.retry_after_s,
        )


def _sent(asked: _Asked, step: Send) -> tuple[Any, float]:
    return asked.call.write(step.timeout_s), min(step.give_up, asked.deadline)
