"""Streams: requests whose answer is wanted in pieces. They are neither cached nor shared.

Path of a request: ``gateway/streams.py`` calls ``start``, which sends the call like any other.
Pieces come to ``_on_pieces``, which moves the deadline and passes them on.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from modelyard.core.clock import Clock
from modelyard.core.deadline import choose_timeout
from modelyard.core.errors import NotAcceptable
from modelyard.core.instances import MANY
from modelyard.core.messages import Form, Request
from modelyard.core.routes import UNKNOWN, Who
from modelyard.core.stream import Stream
from modelyard.dispatch.catalog import Catalog
from modelyard.dispatch.dispatch import Ask, ClientCall
from modelyard.dispatch.entry import Entry
from modelyard.dispatch.expiry import Expiry


class StreamCall(ClientCall):
    """The call of a client who wants the answer in pieces. ``began``: when it came."""

    __slots__ = ("began", "stream")

    is_special = True

    def __init__(
        self,
        request: Request,
        entry: Entry,
        on_answered: Callable[[ClientCall], None],
        on_pieces: Callable[[StreamCall, list[bytes]], None],
        *,
        began: float,
    ) -> None:
        super().__init__(request, entry, on_answered)
        self.stream: Stream = Stream(partial(on_pieces, self))
        self._instances = MANY  # so it is a batch, and a bundle, by itself
        self.began = began


class Streams:
    """Begins streams, and sees to their deadlines.

    Args:
        catalog: All targets.
        expiry: Watches deadlines.
        send: Sends a call, or settles it with an error.
        timeout_cap_s: Upper bound on the time to the first piece.
        clock: Deadlines are readings of it.
    """

    def __init__(
        self,
        catalog: Catalog,
        expiry: Expiry,
        *,
        send: Callable[[ClientCall], None],
        timeout_cap_s: float,
        clock: Clock,
    ) -> None:
        self._catalog = catalog
        self._expiry = expiry
        self._send = send
        self._timeout_cap_s = timeout_cap_s
        self._clock = clock

    def start(
        self,
        ask: Ask,
        on_answered: Callable[[ClientCall], None],
        request_id: str,
        *,
        on_pieces: Callable[[list[bytes]], None],
        form: Form = "json",
        caller: str = "",
        who: Who = UNKNOWN,
    ) -> StreamCall:
        """Begin to answer a request in pieces; see ``Dispatch.start``.

        ``on_pieces`` is called with the next pieces, each as JSON. What has been dealt with is
        granted to ``call.stream``, so that more come. The request's timeout is that of the first
        piece; those of the others, and of all together, are the model's.

        Raises:
            RequestError: See ``Dispatch.start``; or the model gives no pieces.
        """
        entry = self._catalog.resolve(ask.model_name, ask.model_version, who)
        known = entry.announcement
        if entry.gives_no_pieces:
            raise NotAcceptable(f"{entry.target} gives no pieces; ask for its answer as a whole")
        timeout_s = choose_timeout(
            ask.timeout_s, model_s=known.limits.timeout_s, cap_s=self._timeout_cap_s
        )
        now, raw = self._clock(), memoryview(ask.input_data)
        # A first piece that came after the time of all of them would be the last one.
        deadline = now + min(timeout_s, known.limits.stream_timeout_s)
        request = Request(
            *(request_id, entry.target, raw, deadline, ask.priority, form, caller),
            trail=entry.trail_of(who),
        )
        call = StreamCall(
            request, entry, on_answered, partial(self._on_pieces, on_pieces), began=now
        )
        if entry.guarded is not None:
            entry.guarded.watch(ask, call, self._clock)
        self._send(call)
        return call

    def _on_pieces(
        self, on_pieces: Callable[[list[bytes]], None], call: StreamCall, pieces: list[bytes]
    ) -> None:
        """Pass pieces on, and move the deadline."""
        limits = call.entry.announcement.limits
        if call.ticket is not None:
            self._expiry.forget(call, call.ticket)
        last = call.began + limits.stream_timeout_s
        call.deadline = min(self._clock() + limits.piece_timeout_s, last)
        call.ticket = self._expiry.watch(call)
        on_pieces(pieces)
