"""Chooses requests, and hands them over once they are answered: the gateway's side.

Path of a request: ``dispatching.py`` asks ``watch`` what to call when it is answered. For one that
is not chosen that is what it was, so nothing more happens. For one that is, ``_on_answered``
answers, then appends the bytes to a buffer, which is written to the writer's socket 20 ms later.
Nothing is read here, and nobody waits: while the writer does not keep up, requests are counted and
not even chosen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from modelyard.core.call import ErrandMixin
from modelyard.core.clock import Clock
from modelyard.core.errors import GivenUp, RequestError
from modelyard.core.names import Target
from modelyard.dispatch.dispatch import Ask, ClientCall
from modelyard.payloads.config import Config
from modelyard.payloads.frames import Brought, Handed, add_frame

FLUSH_S = 0.02
BUFFER_BYTES = 4 * 1024 * 1024  # before the socket; about as much may be in the transport
LARGEST_BYTES = 1024 * 1024  # of one request with its answer: beyond, both are left out

Answered = Callable[[ClientCall], None]

_NOTHING = memoryview(b"")


class PayloadLog:
    """Hands requests over.

    Args:
        config: Which requests.
        chance: A number from 0 to 1 at each call.
        clock: That of the requests' beginnings.
        wall_clock: Unix time, in seconds.
        owner_of: Returns the owner of a key, by its id.

    Attributes:
        missed: How many requests were chosen while there was no room.
        handed: How many were handed over.
    """

    def __init__(
        self,
        config: Config,
        *,
        chance: Callable[[], float],
        clock: Clock,
        wall_clock: Clock,
        owner_of: Callable[[str], str],
    ) -> None:
        self._rates = {model: config.rate_of(model) for model in config.models}
        self._rate = config.rate
        self._chance, self._clock, self._wall_clock = chance, clock, wall_clock
        self._owner_of = owner_of
        self._is_full = False  # as the transport says, or the buffer while there is none
        self._is_paused = False  # the transport
        self._buffer = bytearray()  # also before there is a writer, and between two
        self._buffered = 0  # requests in it
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._brought: dict[tuple[str, str], bytes] = {}
        self.missed = self.handed = 0

    def watch(self, answered: Answered, ask: Ask, started: float) -> Answered:
        """Return what is to be called when a request is answered, in place of ``answered``."""
        if self._chance() >= self._rates.get(ask.model_name, self._rate):
            return answered
        if self._is_full:
            self.missed += 1
            return answered
        return partial(self._on_answered, answered, started)

    def connect(self, transport: asyncio.WriteTransport) -> None:
        """Hand over to this writer from now on."""
        transport.set_write_buffer_limits(high=BUFFER_BYTES)
        self._transport = transport
        for (model, version), profile in self._brought.items():
            self._send(Brought(model, version, profile))
        self.flush()

    def bring(self, target: Target, profile: bytes) -> None:
        """Let what a target answers be compared with the reference that it has brought; empty for
        none any longer.
        """
        key = (target.name, target.version)
        if self._brought.get(key, b"") == profile:
            return
        self._brought.pop(key, None)
        if profile:
            self._brought[key] = profile
        self._send(Brought(*key, profile))

    def _send(self, brought: Brought) -> None:
        if self._transport is not None:
            frame = bytearray()
            add_frame(frame, brought)
            self._transport.write(frame)

    def set_full(self, is_full: bool) -> None:
        """Note that the writer takes no more at the moment, or does again."""
        self._is_full = self._is_paused = is_full

    def disconnect(self) -> None:
        """Keep what comes in the buffer until there is a writer again."""
        self._transport, self._is_full, self._is_paused = None, False, False

    def flush(self) -> None:
        """Write the buffer to the socket."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None and self._buffer:
            buffer, self._buffer = self._buffer, bytearray()
            self.handed += self._buffered
            self._buffered, self._is_full = 0, self._is_paused
            self._transport.write(buffer)  # which may pause

    def _on_answered(self, answered: Answered, started: float, call: ClientCall) -> None:
        answered(call)
        outcome = call.outcome
        if isinstance(outcome, GivenUp):
            return
        request, target = call.request, call.entry.target
        input_ = request.input
        output = memoryview(outcome) if isinstance(outcome, bytes) else _NOTHING
        is_too_large = len(input_) + len(output) > LARGEST_BYTES or _has_object(call)
        if is_too_large:
            input_ = output = _NOTHING
        buffer = self._buffer
        if len(buffer) + len(input_) + len(output) > BUFFER_BYTES:
            self._is_full = self._transport is None  # else there is room after the next flush
            self.missed += 1
            return
        handed = Handed(
            request.id,
            target.name,
            target.version,
            self._wall_clock(),
            self._clock() - started,
            outcome.code if isinstance(outcome, RequestError) else "ok",
            call.cache_use,
            request.form,
            request.caller,
            self._owner_of(request.caller) if request.caller else "",
            is_too_large,
            input_,
            output,
        )
        add_frame(buffer, handed)
        self._buffered += 1
        if self._timer is None and self._transport is not None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self.flush)


def _has_object(call: ClientCall) -> bool:
    """Return whether the input or the answer lies in an object store."""
    if not isinstance(call, ErrandMixin):
        return False
    return call.object is not None or call.errand.input is not None
