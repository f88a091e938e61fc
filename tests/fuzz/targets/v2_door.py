"""Bodies of V2 from the door on: what it lets pass, the runner can read or refuses as it should.

The first two bytes say how many bytes are JSON; with a high first byte, all are.
"""

from __future__ import annotations

from modelyard.core.errors import RequestError
from modelyard.gateway.v2 import V2Door
from tests.fuzz.refusals import check_refusal
from tests.fuzz.targets import v2_tensors


def run(data: bytes) -> None:
    length = int.from_bytes(data[:2], "big")
    body = data[2:]
    json_bytes = None if length >= 0x8000 else length
    made = []
    for given in (body, bytearray(body)):  # a bytearray is written over
        door = V2Door("iris", None, json_bytes=json_bytes, coding=b"")
        try:
            heard = door.read(given)
        except RequestError as error:
            check_refusal(error)
            made.append((type(error).__name__.encode(), error.detail.encode()))
        else:
            made.append((bytes(heard.input_data), heard.echo))
            v2_tensors.run(bytes(heard.input_data))
    assert made[0] == made[1]
