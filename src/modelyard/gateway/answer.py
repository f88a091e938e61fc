"""What is answered: predictions and problems as status, headers and body."""

from __future__ import annotations

from http import HTTPStatus
from typing import NamedTuple

import msgspec

from modelyard.core.errors import RequestError
from modelyard.core.messages import Form
from modelyard.core.names import Target
from modelyard.dispatch.dispatch import CacheUse
from modelyard.gateway.problems import MEDIA_TYPE, MethodNotAllowed, problem_of
from modelyard.gateway.question import MEDIA_TYPES
from modelyard.gateway.types import Header, Send

_PREDICTION_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n"
    b"x-request-id: %b\r\nx-cache: %b\r\n"
)


class Answer(NamedTuple):
    """One response; the server adds the headers that every one has."""

    status: int
    headers: list[Header]
    body: bytes

    @property
    def head(self) -> bytes:
        """Status line and headers, without the blank line."""
        line = b"HTTP/1.1 %d %b\r\n" % (self.status, HTTPStatus(self.status).phrase.encode())
        return line + b"".join(b"%b: %b\r\n" % header for header in self.headers)

    async def send(self, send: Send) -> None:
        """Send it (ASGI)."""
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


def prediction_answer(
    target: Target, output: bytes, form: Form, *, request_id: str, cache_use: CacheUse
) -> Answer:
    """Give the answer to a request that went well."""
    body = prediction_body(target, output, form)
    headers = [
        (b"content-type", MEDIA_TYPES[form]),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id.encode()),
        (b"x-cache", cache_use.encode()),
    ]
    return Answer(200, headers, body)


def prediction_head(form: Form, body_bytes: int, *, request_id: str, cache_use: CacheUse) -> bytes:
    """Give the ``head`` of the same, at a tenth of the cost (0.2 µs)."""
    return _PREDICTION_HEAD % (
        MEDIA_TYPES[form],
        body_bytes,
        request_id.encode(),
        cache_use.encode(),
    )


def prediction_body(target: Target, output: bytes, form: Form) -> bytes:
    """Put predictions, as the runner wrote them, into the body of an answer."""
    if form == "msgpack":
        return msgspec.msgpack.encode(
            {
                "model_name": target.name,
                "model_version": target.version,
                "prediction": msgspec.Raw(output),
            }
        )
    return b'{"model_name":"%b","model_version":"%b","prediction":%b}' % (
        target.name.encode(),  # names need no escaping: see core/names.py
        target.version.encode(),
        output,
    )


def problem_answer(error: RequestError, request_id: str) -> Answer:
    """Give the answer to a request that did not: a problem document."""
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
    return Answer(problem.status, headers, problem.body)
