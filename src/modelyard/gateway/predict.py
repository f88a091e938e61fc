"""``POST /predict``: the hot path. From bytes to ``Dispatch.predict`` and back to bytes.

An ASGI callable that stands in front of the FastAPI application (``gateway/app.py``): per request
it decodes the envelope, and nothing else of the body; it makes no task and formats no log line.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from itertools import count
from typing import Protocol

import msgspec

from modelyard.core.batch import Priority
from modelyard.core.errors import (
    InvalidInput,
    Malformed,
    RequestError,
    ShuttingDown,
    WrongMediaType,
)
from modelyard.core.names import Target
from modelyard.dispatch.dispatch import Ask, Dispatch, Prediction
from modelyard.gateway.body import ClientGone, check_nesting, read_body
from modelyard.gateway.clients import Clients
from modelyard.gateway.problems import MEDIA_TYPE, problem_of
from modelyard.gateway.types import Headers, Receive, Respond, Scope, Send

log = logging.getLogger(__name__)

LONGEST_REQUEST_ID = 128
INLINE_PARSE_BYTES = 256 * 1024  # parsing more than this would hold the loop noticeably


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


class PredictEndpoint:
    """Answers predictions.

    Args:
        dispatch: Asked for every well-formed request.
        metrics: Told of every answer.
        max_body_bytes: Larger bodies, also after inflation, are refused.
        body_timeout_s: How long a client may take to send its body.
        is_access_logged: Whether to log a line per request.
    """

    def __init__(
        self,
        *,
        dispatch: Dispatch,
        metrics: GatewayMetrics,
        max_body_bytes: int,
        body_timeout_s: float,
        is_access_logged: bool,
    ) -> None:
        self._dispatch = dispatch
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes
        self._body_timeout_s = body_timeout_s
        self._is_access_logged = is_access_logged
        self._clients = Clients()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        started = time.monotonic()
        headers: Headers = dict(scope["headers"])
        request_id = request_id_of(headers)
        target: Target | None = None
        ask = None
        try:
            ask = await self._read(scope, receive, headers, request_id)
            prediction = await self._predict(ask, receive)
            target, code = prediction.target, "ok"
            if not _send_at_once(scope, prediction, request_id):
                await _send_prediction(send, prediction, request_id)
        except RequestError as error:
            target, code = self._target_of(ask), error.code
            await send_problem(send, error, request_id)
        except ClientGone:
            code = "client_gone"
        except asyncio.CancelledError:  # the server does not wait for us any longer
            code = ShuttingDown.code
            await send_problem(send, ShuttingDown("this gateway is shutting down"), request_id)
            raise
        except Exception:  # a defect of ours: say so, and never without a problem document
            log.exception("unexpected_error", extra={"id": request_id})
            code = RequestError.code
            await send_problem(send, RequestError("something went wrong here"), request_id)
        seconds = time.monotonic() - started
        self._metrics.answered(target, code, seconds)
        if self._is_access_logged:
            fields = {"id": request_id, "model": str(target), "code": code, "seconds": seconds}
            log.info("request", extra=fields)

    async def _read(self, scope: Scope, receive: Receive, headers: Headers, request_id: str) -> Ask:
        if scope["method"] != "POST":
            raise MethodNotAllowed(f"{scope['method']} is not allowed; POST is")
        if not _is_json(headers.get(b"content-type", b"")):
            raise WrongMediaType("content-type must be application/json")
        body = await read_body(
            receive,
            headers,
            max_bytes=self._max_body_bytes,
            timeout_s=self._body_timeout_s,
            is_whole="modelyard.is_whole" in scope,
        )
        if len(body) > INLINE_PARSE_BYTES:
            envelope = await asyncio.to_thread(read_envelope, body)
        else:
            envelope = read_envelope(body)
        return Ask(
            request_id,
            envelope.model_name,
            envelope.model_version,
            memoryview(envelope.input_data),
            envelope.timeout_s,
            envelope.priority,
            b"no-cache" in headers.get(b"cache-control", b""),
        )

    async def _predict(self, ask: Ask, receive: Receive) -> Prediction:
        """Ask dispatch, and give up if the client leaves."""
        task = self._clients.enter(receive)
        try:
            prediction = await self._dispatch.predict(ask)
        except asyncio.CancelledError:
            if not self._clients.leave(task):
                raise
            task.uncancel()
            raise ClientGone from None
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


def read_envelope(body: bytes) -> Envelope:
    """Decode a request's body.

    Raises:
        Malformed: It is not JSON, or is nested too deep.
        InvalidInput: A field is missing, unknown or of the wrong type; says which.
    """
    check_nesting(body)
    try:
        return _decode_envelope(body)
    except msgspec.ValidationError as error:
        invalid = error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(str(error)) from None
    try:
        msgspec.json.decode(body)  # a number or string that no type could hold: malformed
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(str(error)) from None
    problem, _, path = str(invalid).rpartition(" - at ")
    raise InvalidInput(problem or path, where=path.strip("`") if problem else "$")


def _is_json(content_type: bytes) -> bool:
    """Tell whether a content type is JSON, with parameters or without."""
    if content_type == b"application/json":
        return True
    return content_type.partition(b";")[0].strip().lower() == b"application/json"


_id_prefix = os.urandom(6).hex()
_id_numbers = count(1)


def request_id_of(headers: Headers) -> str:
    """Give the client's request id if it sent a usable one, else a new one."""
    given = headers.get(b"x-request-id")
    if given and len(given) <= LONGEST_REQUEST_ID and given.isascii():
        text = given.decode("ascii")
        if text.isprintable():
            return text
    return f"{_id_prefix}-{next(_id_numbers):x}"  # unique, and 8 times cheaper than a UUID


def _send_at_once(scope: Scope, prediction: Prediction, request_id: str) -> bool:
    """Send the answer in one write, where the server offers it; tells whether it did."""
    # Taken out, since it refers to what refers to the scope: left there, every request would be
    # garbage that only the collector finds (8 % of the gateway's time under load).
    respond: Respond | None = scope.pop("modelyard.respond", None)
    if respond is None:
        return False
    body = _body_of(prediction)
    head = _HEAD % (len(body), request_id.encode(), prediction.cache_use.encode())
    return respond(head, body)


async def _send_prediction(send: Send, prediction: Prediction, request_id: str) -> None:
    body = _body_of(prediction)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id.encode()),
        (b"x-cache", prediction.cache_use.encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _body_of(prediction: Prediction) -> bytes:
    target, output, _ = prediction
    return b'{"model_name":"%b","model_version":"%b","prediction":%b}' % (
        target.name.encode(),  # names need no escaping: see core/names.py
        target.version.encode(),
        output,
    )


_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
    b"x-request-id: %b\r\nx-cache: %b\r\n"
)


async def send_problem(send: Send, error: RequestError, request_id: str) -> None:
    """Answer with a problem document."""
    problem = problem_of(error, request_id=request_id)
    body = problem.body
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id.encode()),
    ]
    if error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % error.retry_after_s))
    if error.code == "method_not_allowed":
        headers.append((b"allow", b"POST"))
    if error.code in ("too_large", "too_slow"):
        headers.append((b"connection", b"close"))  # the rest of the body is not worth reading
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
