"""``tools/call``: from a tool's arguments to ``PredictEndpoint.begin``, and back.

The arguments are the body of ``POST /models/NAME/predict``, and the headers of the HTTP request
mean what they do there.
"""

from __future__ import annotations

import asyncio

import msgspec
from fastapi import Request
from mcp_types import CallToolRequestParams, CallToolResult, TextContent

from modelyard.core.errors import GivenUp
from modelyard.gateway.heads import Head
from modelyard.gateway.plans import PATH
from modelyard.gateway.predict import PredictEndpoint

_OK = b"HTTP/1.1 200 "
_OF_THE_ENVELOPE = {
    b"accept",
    b"content-encoding",
    b"content-length",
    b"transfer-encoding",
    b"expect",
    b"prefer",
}


async def call_model(
    endpoint: PredictEndpoint, request: Request, params: CallToolRequestParams
) -> CallToolResult:
    """Ask a model. A problem document is the text of an error."""
    answer: asyncio.Future[tuple[bytes, bytes]] = asyncio.get_running_loop().create_future()

    def respond(head: bytes, body: bytes) -> None:
        if not answer.done():
            answer.set_result((head, body))

    head = _head_of(request)
    host = "" if request.client is None else request.client.host
    plan = endpoint.plan(head, host)
    assert plan is not None  # it is one of a prediction
    predicting = endpoint.begin(
        plan._replace(name=params.name),
        msgspec.json.encode(params.arguments or {}),
        respond,
        given=(head.headers.get(b"x-request-id"), None),
        host=host,
    )
    try:
        status, body = await answer
    except asyncio.CancelledError:
        if predicting is not None and predicting.outcome is None:
            predicting.settle(GivenUp("the client has cancelled the call"))
        raise
    is_answered = status.startswith(_OK)
    return CallToolResult(
        content=[TextContent(text=body.decode())],
        structured_content=msgspec.json.decode(body) if is_answered else None,
        is_error=not is_answered,
    )


def _head_of(request: Request) -> Head:
    """Return the head that the request would have at ``/predict``."""
    fields = [field for field in request.headers.raw if field[0] not in _OF_THE_ENVELOPE]
    fields += [(b"content-type", b"application/json")]
    lines = [b"POST %b HTTP/1.1" % PATH, *(b"%b: %b" % field for field in fields), b"", b""]
    return Head(b"\r\n".join(lines), b"POST", PATH, dict(fields), is_last=False)
