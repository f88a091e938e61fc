"""``POST /predict``: from bytes to ``Dispatch.start`` and back to bytes.

It stands in front of the FastAPI application (``gateway/app.py``): per request it decodes the
envelope (``question.py``), and nothing else of the body; it makes no task and formats no log line.
What it says is written in ``answer.py``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import NamedTuple, Protocol

from modelyard.core.call import Call
from modelyard.core.errors import (
    GivenUp,
    RequestError,
    ShuttingDown,
    TooLarge,
    TooSlow,
    WrongMediaType,
)
from modelyard.core.messages import Form
from modelyard.core.names import Target
from modelyard.dispatch.dispatch import Ask, Dispatch, Inquiry, Prediction
from modelyard.gateway.answer import (
    prediction_answer,
    prediction_body,
    prediction_head,
    problem_answer,
)
from modelyard.gateway.body import read_body
from modelyard.gateway.budget import SMALL_BYTES, Budget
from modelyard.gateway.clients import Clients
from modelyard.gateway.problems import MethodNotAllowed
from modelyard.gateway.question import (
    form_of,
    given_request_id,
    new_request_id,
    read_question,
    request_id_of,
    wants_fresh,
)
from modelyard.gateway.types import Headers, Receive, Respond, Scope, Send

log = logging.getLogger(__name__)

PATH = b"/predict"
INLINE_PARSE_BYTES = 256 * 1024  # parsing more than this would hold the loop noticeably

_EXTRAORDINARY = {b"content-encoding", b"transfer-encoding", b"expect", b"upgrade"}
_NEW_EVERY_TIME = {b"x-request-id", b"traceparent", b"b3", b"x-b3-spanid"}


class GatewayMetrics(Protocol):
    """What the gateway tells of its work."""

    def answered(self, target: Target | None, code: str, seconds: float) -> None:
        """A request was answered: ``ok`` or the code of a problem."""
        ...


class Plan(NamedTuple):
    """What the headers of an ordinary request say.

    ``is_reusable``: they may come again byte by byte; ``request_id``: the client's own.
    """

    form: Form
    body_bytes: int
    is_bypass: bool
    is_reusable: bool
    request_id: str | None


class PredictEndpoint:
    """Answers predictions: ordinary ones through ``begin``, all others as an ASGI callable.

    Args:
        dispatch: Asked for every well-formed request.
        metrics: Told of every answer.
        max_body_bytes: Larger bodies, also after inflation, are refused.
        max_bodies_bytes: So much may the bodies of all requests under way have together.
        body_timeout_s: How long a client may take to send its body.
        is_access_logged: Whether to log a line per request.
    """

    def __init__(
        self,
        *,
        dispatch: Dispatch,
        metrics: GatewayMetrics,
        max_body_bytes: int,
        max_bodies_bytes: int,
        body_timeout_s: float,
        is_access_logged: bool,
    ) -> None:
        self.body_timeout_s = body_timeout_s
        self.budget = Budget(max_bodies_bytes)
        self._dispatch = dispatch
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes
        self._max_inline_bytes = min(max_body_bytes, INLINE_PARSE_BYTES)
        self._is_access_logged = is_access_logged
        self._clients = Clients()

    # Ordinary requests, from ``hot.py``.

    def plan_of(self, headers: Headers) -> Plan | None:
        """Say what ``begin`` has to know; None for a request that is not ordinary."""
        form = form_of(headers)
        size = headers.get(b"content-length", b"")
        most_bytes = self._max_body_bytes if form == "msgpack" else self._max_inline_bytes
        is_ordinary = (
            form is not None
            and size.isdigit()
            and 0 < int(size) <= most_bytes
            and not headers.keys() & _EXTRAORDINARY
        )
        if form is None or not is_ordinary:
            return None
        return Plan(
            form=form,
            body_bytes=int(size),
            is_bypass=wants_fresh(headers),
            is_reusable=not headers.keys() & _NEW_EVERY_TIME,
            request_id=given_request_id(headers),
        )

    def begin(self, plan: Plan, body: bytes | bytearray, respond: Respond) -> Call | None:
        """Begin to answer; ``respond`` is called once, maybe at once.

        Gives the call that is then under way. Settle it with GivenUp when the client leaves:
        ``respond`` is not called then.
        """
        started = time.monotonic()
        request_id = plan.request_id or new_request_id()
        ask = None
        try:
            ask = read_question(body, plan.form, request_id=request_id, is_bypass=plan.is_bypass)
            return self._dispatch.start(ask, partial(self._on_answered, respond, started))
        except RequestError as refused:
            error = refused.with_traceback(None)  # else it would hold this frame, and the body
        except Exception:  # a defect of ours: say so, and never without a problem document
            log.exception("unexpected_error", extra={"id": request_id})
            error = RequestError("something went wrong here")
        target = self._target_of(ask)
        self.refuse(error, respond, request_id=request_id, target=target, started=started)
        return None

    def refuse(
        self,
        error: RequestError,
        respond: Respond,
        *,
        request_id: str = "",
        target: Target | None = None,
        started: float | None = None,
    ) -> None:
        """Answer with a problem document, and count it."""
        request_id = request_id or new_request_id()
        answer = problem_answer(error, request_id)
        respond(answer.head, answer.body)
        now = time.monotonic()
        self._note(target, error.code, now - (now if started is None else started), request_id)

    def _on_answered(self, respond: Respond, started: float, inquiry: Inquiry) -> None:
        outcome, request_id = inquiry.outcome, inquiry.request.id
        target = inquiry.entry.target
        if isinstance(outcome, bytes):
            form, use = inquiry.request.form, inquiry.cache_use
            body = prediction_body(target, outcome, form)
            respond(prediction_head(form, len(body), request_id=request_id, cache_use=use), body)
            self._note(target, "ok", time.monotonic() - started, request_id)
        elif isinstance(outcome, GivenUp):
            self._note(target, outcome.code, time.monotonic() - started, request_id)
        elif outcome is not None:
            self.refuse(outcome, respond, request_id=request_id, target=target, started=started)

    # All others.

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        started = time.monotonic()
        headers: Headers = dict(scope["headers"])
        request_id = request_id_of(headers)
        target: Target | None = None
        ask = room = None
        try:
            room = self.budget.take(self._size_of(scope, headers))
            ask = await self._read(scope, receive, headers, request_id)
            spare = max(0, room - len(ask.input))
            self.budget.give_back(spare)
            room -= spare
            prediction = await self._predict(ask, receive)
            target, code = prediction.target, "ok"
            answer = prediction_answer(
                target,
                prediction.output,
                ask.form,
                request_id=request_id,
                cache_use=prediction.cache_use,
            )
            await answer.send(send)
        except GivenUp as error:  # nobody is there to be answered
            code = error.code
        except RequestError as error:
            target, code = self._target_of(ask), error.code
            await _send_problem(send, error, request_id, is_unread=room is None)
        except asyncio.CancelledError:  # the server does not wait for us any longer; we end here
            code = ShuttingDown.code
            await _send_problem(send, ShuttingDown("this gateway is shutting down"), request_id)
        except Exception:  # a defect of ours: say so, and never without a problem document
            log.exception("unexpected_error", extra={"id": request_id})
            code = RequestError.code
            await _send_problem(send, RequestError("something went wrong here"), request_id)
        finally:
            self.budget.give_back(room or 0)
        self._note(target, code, time.monotonic() - started, request_id)

    def _size_of(self, scope: Scope, headers: Headers) -> int:
        """Give how large a body may be in memory; one over the limit is never kept."""
        if scope["method"] != "POST":
            return 0
        declared = headers.get(b"content-length")
        is_known = declared is not None and b"content-encoding" not in headers
        return min(int(declared or 0), self._max_body_bytes) if is_known else self._max_body_bytes

    def _note(self, target: Target | None, code: str, seconds: float, request_id: str) -> None:
        self._metrics.answered(target, code, seconds)
        if self._is_access_logged:
            fields = {"id": request_id, "model": str(target), "code": code, "seconds": seconds}
            log.info("request", extra=fields)

    async def _read(self, scope: Scope, receive: Receive, headers: Headers, request_id: str) -> Ask:
        if scope["method"] != "POST":
            raise MethodNotAllowed(f"{scope['method']} is not allowed; POST is")
        form = form_of(headers)
        if form is None:
            raise WrongMediaType("content-type must be application/json, or application/msgpack")
        body = await read_body(
            receive, headers, max_bytes=self._max_body_bytes, timeout_s=self.body_timeout_s
        )
        is_bypass = wants_fresh(headers)
        read = partial(read_question, body, form, request_id=request_id, is_bypass=is_bypass)
        is_slow = len(body) > INLINE_PARSE_BYTES and form == "json"
        ask = await asyncio.to_thread(read) if is_slow else read()
        if len(body) - len(ask.input) > SMALL_BYTES:  # else a small part would keep all of it
            ask = ask._replace(input=memoryview(bytes(ask.input)))
        return ask

    async def _predict(self, ask: Ask, receive: Receive) -> Prediction:
        """Ask dispatch, and give up if the client leaves."""
        task = self._clients.enter(receive)
        try:
            prediction = await self._dispatch.predict(ask)
        except asyncio.CancelledError:
            if not self._clients.leave(task):
                raise
            task.uncancel()
            raise GivenUp("the client has left") from None
        except BaseException:
            self._clients.leave(task)
            raise
        self._clients.leave(task)
        return prediction

    def _target_of(self, ask: Ask | None) -> Target | None:
        """Give the target that a failed request meant, for the metrics."""
        if ask is None:
            return None
        try:
            return self._dispatch.catalog.resolve(ask.name, ask.version).target
        except RequestError:
            return None


async def _send_problem(
    send: Send, error: RequestError, request_id: str, *, is_unread: bool = False
) -> None:
    answer = problem_answer(error, request_id)
    if is_unread or isinstance(error, TooLarge | TooSlow):
        # The rest of the body is not worth reading.
        answer.headers.append((b"connection", b"close"))
    await answer.send(send)
