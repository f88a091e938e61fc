"""The search for JSON that is nested too deep, against counting byte by byte.

The limits are lowered, so that short inputs reach them. The first byte says how long the pieces are
in which the search goes.
"""

from __future__ import annotations

from unittest.mock import patch

from modelyard.core.errors import Malformed
from modelyard.gateway import nesting
from tests.fuzz.refusals import check_refusal

DEEPEST = 4


def run(data: bytes) -> None:
    step, body = 1 + (data[0] if data else 0) % 32, data[1:]
    with (
        patch.object(nesting, "DEEPEST_NESTING", DEEPEST),
        patch.object(nesting, "SEARCHED_BYTES", step),
    ):
        try:
            nesting.check_nesting(body)
            is_refused = False
        except Malformed as error:
            check_refusal(error)
            is_refused = True
    assert is_refused == _is_too_deep(body)


def _is_too_deep(body: bytes) -> bool:
    """Return whether brackets outside of strings are nested too deep, or are no pairs."""
    if body.count(b"[") + body.count(b"{") <= DEEPEST:
        return False
    depth = 0
    is_string = is_escaped = False
    for byte in body:
        if is_string:
            if is_escaped:
                is_escaped = False
            elif byte == ord("\\"):
                is_escaped = True
            elif byte == ord('"'):
                is_string = False
        elif byte == ord('"'):
            is_string = True
        elif byte in b"[{":
            depth += 1
        elif byte in b"]}":
            depth -= 1
        if not 0 <= depth <= DEEPEST:
            return True
    return depth != 0
