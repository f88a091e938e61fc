"""``POST /predict``: from bytes to ``Dispatch.start`` and back to bytes.

It stands in front of the FastAPI application (``gateway/app.py``): per request it decodes the
envelope, and nothing else of the body; it makes no task and formats no log line.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from functools import partial
from http import HTTPStatus
from itertools import count
from typing import NamedTuple, Protocol

import msgspec

from modelyard.core.batch import Priority
from modelyard.core.call import Call
from modelyard.core.errors import (
    GivenUp,
    InvalidInput,
    Malformed,
    RequestError,
    ShuttingDown,
    TooLarge,
    TooSlow,
    WrongMediaType,
)
from modelyard.core.messages import Form
from modelyard.core.names import Target
from modelyard.dispatch.dispatch import Ask, Dispatch, Inquiry, Prediction
from modelyard.gateway.body import check_nesting, read_body
from modelyard.gateway.budget import Budget
from modelyard.gateway.clients import Clients
from modelyard.gateway.problems import MEDIA_TYPE, problem_of
from modelyard.gateway.types import Header, Headers, Receive, Respond, Scope, Send

log = logging.getLogger(__name__)

PATH = b"/predict"
LONGEST_REQUEST_ID = 128
INLINE_PARSE_BYTES = 256 * 1024  # parsing more than this would hold the loop noticeably


_EXTRAORDINARY = {b"content-encoding", b"transfer-encoding", b"expect", b"upgrade"}
_NEW_EVERY_TIME = {b"x-request-id", b"traceparent", b"b3", b"x-b3-spanid"}


class Envelope(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The body of a request; ``input_data`` stays raw until the runner reads it."""

    model_name: str
    input_data: msgspec.Raw
    model_version: str | None = None
    timeout_s: float | None = None
    priority: Priority = "normal"


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
        form = _form_of(headers)
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
            is_bypass=_is_bypass(headers),
            is_reusable=not headers.keys() & _NEW_EVERY_TIME,
            request_id=_given_id(headers),
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
            envelope = read_envelope(body, plan.form)
            ask = _ask_of(envelope, request_id, plan.form, is_bypass=plan.is_bypass)
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
        status, headers, body = _problem_response(error, request_id)
        lines = [b"HTTP/1.1 %d %b\r\n" % (status, HTTPStatus(status).phrase.encode())]
        respond(b"".join([*lines, *(b"%b: %b\r\n" % header for header in headers)]), body)
        now = time.monotonic()
        self._note(target, error.code, now - (now if started is None else started), request_id)

    def _on_answered(self, respond: Respond, started: float, inquiry: Inquiry) -> None:
        outcome, request_id = inquiry.outcome, inquiry.request.id
        target = inquiry.entry.target
        if isinstance(outcome, bytes):
            form = inquiry.request.form
            body = _body_of(target, outcome, form)
            use = inquiry.cache_use.encode()
            respond(_HEAD % (_TYPES[form], len(body), request_id.encode(), use), body)
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
            await _send_prediction(send, prediction, ask)
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
        form = _form_of(headers)
        if form is None:
            raise WrongMediaType("content-type must be application/json, or application/msgpack")
        body = await read_body(
            receive, headers, max_bytes=self._max_body_bytes, timeout_s=self.body_timeout_s
        )
        if len(body) > INLINE_PARSE_BYTES and form == "json":
            envelope = await asyncio.to_thread(read_envelope, body)
        else:
            envelope = read_envelope(body, form)
        return _ask_of(envelope, request_id, form, is_bypass=_is_bypass(headers))

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


class MethodNotAllowed(RequestError):
    """Something other than POST."""

    code = "method_not_allowed"


_decode_envelope = msgspec.json.Decoder(Envelope).decode
_unpack_envelope = msgspec.msgpack.Decoder(Envelope).decode


def read_envelope(body: bytes | bytearray, form: Form = "json") -> Envelope:
    """Decode a request's body.

    Raises:
        Malformed: It is not of this form, or is nested too deep.
        InvalidInput: A field is missing, unknown or of the wrong type; says which.
    """
    is_json = form == "json"
    if is_json:
        check_nesting(body)
    try:
        return _decode_envelope(body) if is_json else _unpack_envelope(body)
    except msgspec.ValidationError as error:
        invalid = error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(str(error)) from None
    try:
        if is_json:
            msgspec.json.decode(body)  # a number or string that no type could hold: malformed
        else:
            msgspec.msgpack.decode(body, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(str(error)) from None
    problem, _, path = str(invalid).rpartition(" - at ")
    raise InvalidInput(problem or path, where=path.strip("`") if problem else "$")


_TYPES: dict[Form, bytes] = {"json": b"application/json", "msgpack": b"application/msgpack"}
_FORMS: dict[bytes, Form] = {
    _TYPES["json"]: "json",
    _TYPES["msgpack"]: "msgpack",
    b"application/vnd.msgpack": "msgpack",  # as registered at IANA
    b"application/x-msgpack": "msgpack",
}


def _form_of(headers: Headers) -> Form | None:
    """Give the form of a body, whatever parameters its content type has; None for another."""
    content_type = headers.get(b"content-type", b"")
    return _FORMS.get(content_type.partition(b";")[0].strip().lower())


def _ask_of(envelope: Envelope, request_id: str, form: Form, *, is_bypass: bool) -> Ask:
    return Ask(
        request_id,
        envelope.model_name,
        envelope.model_version,
        memoryview(envelope.input_data),
        envelope.timeout_s,
        envelope.priority,
        is_bypass,
        form,
    )


def _is_bypass(headers: Headers) -> bool:
    return b"no-cache" in headers.get(b"cache-control", b"")


_id_prefix = os.urandom(6).hex()
_id_numbers = count(1)


def new_request_id() -> str:
    """Give an id that no other request has, at an eighth of a UUID's cost."""
    return f"{_id_prefix}-{next(_id_numbers):x}"


def request_id_of(headers: Headers) -> str:
    """Give the client's request id if it sent a usable one, else a new one."""
    return _given_id(headers) or new_request_id()


def _given_id(headers: Headers) -> str | None:
    given = headers.get(b"x-request-id")
    if given and len(given) <= LONGEST_REQUEST_ID and given.isascii():
        text = given.decode("ascii")
        if text.isprintable():
            return text
    return None


_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n"
    b"x-request-id: %b\r\nx-cache: %b\r\n"
)


async def _send_prediction(send: Send, prediction: Prediction, ask: Ask) -> None:
    body = _body_of(prediction.target, prediction.output, ask.form)
    headers = [
        (b"content-type", _TYPES[ask.form]),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", ask.id.encode()),
        (b"x-cache", prediction.cache_use.encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _body_of(target: Target, output: bytes, form: Form) -> bytes:
    if form == "msgpack":
        prediction = msgspec.Raw(output)
        return msgspec.msgpack.encode(
            {
                "model_name": target.name,
                "model_version": target.version,
                "prediction": prediction,
            }
        )
    return b'{"model_name":"%b","model_version":"%b","prediction":%b}' % (
        target.name.encode(),  # names need no escaping: see core/names.py
        target.version.encode(),
        output,
    )


async def _send_problem(
    send: Send, error: RequestError, request_id: str, *, is_unread: bool = False
) -> None:
    status, headers, body = _problem_response(error, request_id)
    if is_unread or isinstance(error, TooLarge | TooSlow):
        headers.append((b"connection", b"close"))  # the rest of the body is not worth reading
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _problem_response(error: RequestError, request_id: str) -> tuple[int, list[Header], bytes]:
    """Give status, headers and body of a problem document."""
    problem = problem_of(error, request_id=request_id)
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", b"%d" % len(problem.body)),
        (b"x-request-id", request_id.encode()),
    ]
    if error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % error.retry_after_s))
    if error.code == MethodNotAllowed.code:
        headers.append((b"allow", b"POST"))
    return problem.status, headers, problem.body
