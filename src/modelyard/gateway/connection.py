"""One HTTP/1.1 connection: its requests are answered one after the other.

Path of a request: received bytes go straight to the reader (``reader.py``), which calls
``_on_request``; that calls ``PredictEndpoint.begin`` (``predict.py``), which calls ``respond`` when
there is an answer. ``outbox.py`` writes the response. All else goes to uvicorn (``handover.py``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar, cast

import uvicorn
from uvicorn.server import ServerState

from modelyard.access.proxies import Proxies
from modelyard.core.errors import GivenUp, RequestError, TooLarge
from modelyard.gateway.answer import problem_answer, without_body
from modelyard.gateway.budget import Reserved
from modelyard.gateway.handover import Handover, Pages
from modelyard.gateway.heads import Head
from modelyard.gateway.keep_alive import KeepAlive
from modelyard.gateway.known import KnownHeads
from modelyard.gateway.outbox import outbox_of
from modelyard.gateway.predict import PredictEndpoint
from modelyard.gateway.preparing import Predicting
from modelyard.gateway.question import new_request_id
from modelyard.gateway.reader import Limits, RequestReader, State
from modelyard.gateway.room import Room
from modelyard.gateway.stall import Stall
from modelyard.gateway.stream_writer import StreamWriter
from modelyard.gateway.streamed import StreamedHandover, answer_streamed, mark_streamed
from modelyard.gateway.types import Respond

IDLE_LINGER_S = 0.5  # a stopping server keeps idle connections open this long
LINGER_S = 5.0  # after a refusal the rest of the request is read and dropped this long


class HttpConnection(asyncio.Protocol):
    """One connection, created by the server; the class attributes are set per server."""

    endpoint: ClassVar[PredictEndpoint | None] = None
    pages: ClassVar[Pages]
    limits: ClassVar[Limits]
    known: ClassVar[KnownHeads]
    room: ClassVar[Room]
    proxies: ClassVar[Proxies | None] = None
    known_of_proxies: ClassVar[KnownHeads]  # whose plans hold what they say of callers

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._loop = loop = _loop or asyncio.get_running_loop()
        self._server = server_state
        self._outbox = outbox_of(loop)
        self._bodies = Reserved(None if self.endpoint is None else self.endpoint.budget)
        self._reader = RequestReader(
            self,
            self.limits,
            self.known,
            on_head=self._on_head,
            on_request=self._on_request,
            on_expecting=self._on_expecting,
            on_stream=self._on_stream,
            on_refused=self._refuse,
            reserve=self._bodies.take,
        )
        self.data_received = self._reader.feed  # type: ignore[method-assign]
        self._work: Predicting | Handover | None = None
        self._flow: Handover | StreamWriter | None = None  # what a slow client holds up
        self._is_leaving = False
        self._is_write_paused = False
        self.quiet_since = loop.time()

    # Called by the loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request (called by the loop)."""
        self.transport = cast("asyncio.Transport", transport)
        self._host = str((transport.get_extra_info("peername") or ("",))[0])
        if self.proxies is not None and self.proxies.trusts(self._host):
            self._reader.known = self.known_of_proxies
        self._reader.open(self.transport)
        self._stall = Stall(self._loop, self.transport)
        everybody = cast("set[HttpConnection]", self._server.connections)
        has_room = len(everybody) < self.room.most or self.room.make(everybody)
        self._server.connections.add(self)  # type: ignore[arg-type]
        self._keep_alive = KeepAlive(self._loop, self, self._stall)
        if not has_room:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the request that the client waited for (called by the loop)."""
        self._server.connections.discard(self)
        self._keep_alive.stop()
        self._stall.stop()
        self._reader.close()
        self._bodies.give_back()
        work, self._work = self._work, None
        if isinstance(work, Handover):
            work.client_left()
        elif work is not None:
            work.settle(GivenUp("the client has disconnected"))

    def pause_writing(self) -> None:
        """Read no more from a client that does not, and watch it (called by the loop)."""
        self._is_write_paused = True
        self.transport.pause_reading()
        self._stall.watch()
        if self._flow is not None:
            self._flow.pause_writing()

    def resume_writing(self) -> None:
        """Go on writing (called by the loop)."""
        self._is_write_paused = False
        self._stall.stop()
        self._reader.take_more()
        if self._flow is not None:
            self._flow.resume_writing()
        self._go_on()

    # From a request to its response.

    def _on_head(self, head: Head) -> RequestError | None:
        """Decide how a request is answered; returns an error if it is refused."""
        if self.endpoint is not None:
            try:
                head.plan = plan = head.plan or self.endpoint.plan(head, self._host)
                if plan is not None:
                    self.endpoint.admit(plan, self._host)
                else:
                    mark_streamed(head)
            except RequestError as error:
                return error
        most = self.limits.most_bytes(head)
        if (head.body_bytes or 0) > most:
            return TooLarge(f"the body is over the limit of {most} bytes")
        return None

    def _on_request(
        self, head: Head, body: bytes | bytearray, refusal: RequestError | None
    ) -> None:
        """Begin to answer a complete request."""
        if head.is_last:
            self._is_leaving = True
        plan, endpoint = head.plan, self.endpoint
        if plan is not None and endpoint is not None and refusal is None:
            given = self._reader.given
            respond = self._stream_writer(head) if plan.may_stream else self.respond
            work = endpoint.begin(plan, body, respond, given=given, host=self._host)
            if work is not None and work.outcome is None:
                self._work = work
        elif refusal is not None:
            self._answer_refusal(refusal, head, self.respond)
        else:
            self._outbox.flush()
            self._work = self._flow = handover = self.pages.answer(
                head,
                body,
                transport=self.transport,
                default_headers=self._server.default_headers,
                on_done=self._on_page_done,
            )
            if self._is_leaving:
                handover.leave_after()

    def _on_stream(self, head: Head) -> Callable[[bytes], None]:
        """Begin to answer a request whose body still comes."""
        self._is_leaving = True
        self._outbox.flush()
        self._work = self._flow = streamed = answer_streamed(
            self.pages,
            head,
            transport=self.transport,
            default_headers=self._server.default_headers,
            on_done=self._on_page_done,
            on_late=self._refuse,
            timeout_s=self.limits.body_timeout_s,
        )
        return streamed.feed

    def _stream_writer(self, head: Head) -> StreamWriter:
        self._is_leaving = self._is_leaving or head.is_of_http_1_0
        self._flow = writer = StreamWriter(self, is_chunked=not head.is_of_http_1_0)
        return writer

    def complete(self, head: bytes) -> bytes:
        """Return a whole head; what was answered before is sent."""
        self._outbox.flush()
        if self._is_leaving:
            head += b"connection: close\r\n"
        return b"%b%b\r\n" % (head, self._outbox.date_lines(self._server.default_headers))

    def respond(self, head: bytes, body: bytes) -> None:
        """Send a response; ``head`` is the status line and headers without the blank line."""
        if self._is_leaving:
            head += b"connection: close\r\n"
        dated = self._outbox.date_lines(self._server.default_headers)
        self._outbox.add(self.transport, b"%b%b\r\n%b" % (head, dated, body))
        self.on_answered()

    def _on_page_done(self, is_closed: bool) -> None:
        self._is_leaving = self._is_leaving or is_closed
        if self.transport.is_closing() or self._work is None:
            return
        if isinstance(self._work, StreamedHandover) and not self._work.is_whole:
            self._work = None
            self._linger()
        else:
            self.on_answered()

    def on_answered(self) -> None:
        """Go on with the next request, or wait for one."""
        self._work = None
        if self._bodies.taken:
            self._bodies.give_back()
        self._server.total_requests += 1
        self.quiet_since = self._loop.time()
        self._reader.next()
        if self._is_leaving:
            self._outbox.flush()
            self.transport.close()
        elif self._reader.is_behind:
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Read the bytes that came after the last request, once its response is written."""
        if not (self._is_write_paused or self.transport.is_closing()):
            self._reader.go_on()

    def _answer_refusal(self, error: RequestError, head: Head | None, respond: Respond) -> None:
        if head is not None and head.method == b"HEAD":
            respond = without_body(respond)
        if self.endpoint is None:
            respond(*problem_answer(error, new_request_id()))
            return
        given = door = origin = None
        if head is not None:
            given, origin = self._reader.given, head.headers.get(b"origin")
            door = None if head.plan is None else head.plan.door
        self.endpoint.refuse(error, respond, given=given, door=door, origin=origin)

    def _refuse(self, error: RequestError, head: Head | None) -> None:
        """Answer a request of which not all has been read, and close the connection. The rest is
        read and dropped: else a client that still sends would see a reset instead of the answer.
        """
        if self.transport.is_closing() or self._reader.state is State.CLOSED:
            return
        self._is_leaving, self._work = True, None
        self._reader.close()
        self._bodies.give_back()
        self._answer_refusal(error, head, self._write_last)

    def _write_last(self, head: bytes, body: bytes) -> None:
        self._outbox.flush()
        self.transport.write(b"%bconnection: close\r\n\r\n%b" % (head, body))
        self._linger()

    def _linger(self) -> None:
        """Read and drop what still comes, for a limited time, then close."""
        self._reader.close()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._loop.call_later(LINGER_S, self.transport.close)

    def _on_expecting(self) -> None:
        self._outbox.flush()
        self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    # The end.

    @property
    def is_idle(self) -> bool:
        """Whether no request is being read, but for its head, or answered."""
        return self._reader.state in (State.IDLE, State.HEAD) and not self._is_write_paused

    @property
    def is_waiting(self) -> bool:
        """Whether nothing of the next request has come."""
        return self._reader.state is State.IDLE

    def leave(self) -> None:
        """Make room for others."""
        self._server.connections.discard(self)
        self.transport.abort()

    def shutdown(self) -> None:
        """Finish the request in progress, then close (called by uvicorn when the server stops). An
        idle connection answers one more, which its client may just be sending.
        """
        self._outbox.flush()
        self._is_leaving = True
        state = self._reader.state
        if isinstance(self._work, Handover):
            self._work.leave_after()
        if state is State.CLOSED:
            self.transport.close()
        elif state in (State.IDLE, State.HEAD):
            self._loop.call_later(IDLE_LINGER_S, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if self._reader.state in (State.IDLE, State.HEAD):
            self.transport.close()

    def give_up(self, error: RequestError) -> None:
        """Answer the request in progress with ``error``: the server does not wait any longer."""
        if isinstance(self._work, Handover):
            self._work.cancel()
        elif self._work is not None:
            self._work.settle(error)
        elif self._reader.state is State.BODY:
            self._refuse(error, None)
            return  # the end of the process closes it: so the client can read the answer
        if self._is_write_paused or self._reader.state is State.CLOSED:
            self.transport.abort()  # its client does not read, so closing would never finish
