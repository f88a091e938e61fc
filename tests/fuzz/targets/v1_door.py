"""Bodies of V1."""

from __future__ import annotations

from modelyard.core.errors import InvalidInput, Malformed
from modelyard.gateway.v1 import V1Door
from tests.fuzz.refusals import check_refusal


def run(data: bytes) -> None:
    door = V1Door("iris", None)
    try:
        heard = door.read(data)
    except (Malformed, InvalidInput) as error:
        check_refusal(error)
        return
    assert bytes(heard.input_data) in data
