"""What both ways of HTTP have in common."""

from __future__ import annotations

from collections.abc import Mapping

from modelyard.client.exchange import Reply

CONNECT_TIMEOUT_S = 5.0
KEEP_ALIVE_S = 30.0
"""Less than gateways (75 s) and common proxies (60 s) keep a connection that is not used."""


def reply_of(status: int, headers: Mapping[str, str], body: bytes) -> Reply:
    """Return the reply of a gateway; ``headers`` have names in lower case."""
    after = headers.get("retry-after", "")
    return Reply(
        status=status,
        media_type=headers.get("content-type", "").partition(";")[0].strip().lower(),
        body=body,
        retry_after_s=float(after) if after.isdecimal() else None,
        cache=headers.get("x-cache"),
        request_id=headers.get("x-request-id"),
    )
