"""A call: one request in flight, and the watchers that are notified when it settles.

Path of a request: on the way out, each part that has to know how a call ends registers a watcher.
On the way back, ``settle`` calls the watchers, the last one first. With a cache there are two
calls: one per client, and the one that is sent, which identical requests share. Without a cache the
client's own call is sent.

    call        registered by            what the watcher does
    client's    Dispatch.start           forgets the deadline; then the gateway answers the client
    client's    Flight.join              leaves the flight
    sent        Flights.start            settles the call of each client that waits for it
    sent        Dispatch._send_watched   forgets the deadline
    sent        Dispatch._send           counts one request less in flight
    sent        AmqpTransport.send       drops the pending request (only with a broker)

Guards, shadows, limits, traces and concurrent runners add watchers of their own, where there are
such.

``settle`` is called by the pool with the runner's outcome. With a broker the worker has a call of
its own for the request, and ``AmqpTransport._answer`` settles the gateway's. Dispatch settles calls
itself on a cache hit and at the deadline; a client that disconnects settles its own.

All watchers run in one turn of the event loop, and ``gateway/outbox.py`` writes the response right
after it. A future would cost three times as much, because each of its callbacks is scheduled as a
separate turn.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Self

import msgspec

from modelyard.core.errors import RequestError
from modelyard.core.instances import MANY, count_instances
from modelyard.core.messages import Request
from modelyard.core.objects import Errand, ObjectRef
from modelyard.core.stream import Stream

log = logging.getLogger(__name__)

Outcome = bytes | RequestError
"""The predictions, in the form of the request, or the error."""


class Call:
    """One request in flight. The first outcome counts; later ones are ignored.

    Args:
        request: The request that it carries.
        on_settled: Called once, with the call, when it is settled.

    Attributes:
        priority: The request's.
        deadline: The request's, a reading of the monotonic clock.
        input_bytes: The size of the input.
        digest: Digest of the model folder that produced the answer, if the transport reports it.
        instance_s: Seconds that the model took for each instance; 0 if it was not asked.
        arrived: When the call reached its pool. Set and read by the pool only.
        blame: How strongly the call is suspected of ending runners. Set and read by the pool only;
            see ``pool/blame.py``.
        is_special: Whether its pool has to look at it before it runs: it has a stream or an errand.
        stream: Takes the answer in pieces, of a ``StreamedCall``; None for all others.
        object: The result of a job, where it is an object; the outcome is empty then.
    """

    __slots__ = (
        "_instances",
        "_watchers",
        "arrived",
        "blame",
        "deadline",
        "digest",
        "input_bytes",
        "instance_s",
        "outcome",
        "priority",
        "request",
    )

    is_special: ClassVar[bool] = False
    stream: Stream | None = None
    object: ObjectRef | None = None

    def __init__(self, request: Request, on_settled: Callable[[Self], None]) -> None:
        self.request = request
        self.priority = request.priority
        self.deadline = request.deadline
        self.input_bytes = len(request.input)
        self.outcome: Outcome | None = None
        self.digest: str | None = None
        self.instance_s = 0.0
        self.arrived = 0.0
        self.blame = 0
        self._instances = 0
        self._watchers: list[Callable[[Any], None]] = [on_settled]

    @property
    def is_settled(self) -> bool:
        """Whether it has an outcome."""
        return self.outcome is not None

    is_gone = is_settled  # the name in the backlog's protocol

    @property
    def instances(self) -> int:
        """Number of instances in the input, counted on first use."""
        if not self._instances:
            self._instances = count_instances(self.request.input, self.request.form)
        return self._instances

    def ran(self, instances: int, *, instance_s: float) -> None:
        """Note how many instances there were, and how long the model took for each."""
        self._instances, self.instance_s = instances, instance_s

    def watch(self, watcher: Callable[[Self], None]) -> None:
        """Call ``watcher`` when the call settles, before the watchers registered earlier."""
        self._watchers.append(watcher)

    def settle(self, outcome: Outcome) -> None:
        """Set the outcome and notify the watchers; does nothing if the call is already settled.

        A watcher that raises is a bug: the error is logged, and the other watchers are still
        notified.
        """
        if self.outcome is not None:
            return
        self.outcome = outcome
        watchers, self._watchers = self._watchers, []
        for watcher in reversed(watchers):
            try:
                watcher(self)
            except Exception:
                log.exception("watcher_failed", extra={"id": self.request.id})


class StreamedCall(Call):
    """A call whose answer is wanted in pieces; see ``core/stream.py``."""

    __slots__ = ("stream",)

    is_special: ClassVar[bool] = True

    def __init__(
        self,
        request: Request,
        on_settled: Callable[[Self], None],
        on_pieces: Callable[[list[bytes]], None],
    ) -> None:
        super().__init__(request, on_settled)
        self.stream = Stream(on_pieces)
        self._instances = MANY  # so it is a batch, and a bundle, by itself


if TYPE_CHECKING:
    _Mixed = Call
else:
    _Mixed = object  # what mixes it in has another base with slots
_NONE: tuple[str, ...] = ()


class ErrandMixin(_Mixed):
    """What the calls of jobs have beside others: see ``core/objects.py``.

    Attributes:
        put: Called with the call and a large outcome, in place of settling it; it does so once the
            outcome is put away. None where that is done elsewhere.
    """

    __slots__ = _NONE  # those that mix it in have "put" and "object"

    is_special: ClassVar[bool] = True
    put: Callable[[Any, bytes], None] | None
    object: ObjectRef | None

    @property
    def errand(self) -> Errand:
        """What is done with objects."""
        assert self.request.trail is not None and self.request.trail.errand is not None
        return self.request.trail.errand

    def take_input(self, input_: memoryview) -> None:
        """Take the input that was fetched."""
        self.request = msgspec.structs.replace(self.request, input=input_)
        self.input_bytes = len(input_)

    def settle(self, outcome: Outcome | ObjectRef) -> None:
        """See ``Call``."""
        if self.outcome is not None:
            return
        put, self.put = self.put, None
        is_large = isinstance(outcome, bytes) and len(outcome) > self.errand.above_bytes
        if put is not None and is_large:
            assert isinstance(outcome, bytes)
            put(self, outcome)
            return
        if isinstance(outcome, ObjectRef):
            self.object, outcome = outcome, b""
        super().settle(outcome)


class ErrandCall(ErrandMixin, Call):
    """The call of a job in its worker."""

    __slots__ = ("object", "put")

    def __init__(self, request: Request, on_settled: Callable[[Self], None]) -> None:
        super().__init__(request, on_settled)
        self.put = self.object = None
        if self.errand.input is not None:
            self._instances = MANY  # so it is a batch by itself
