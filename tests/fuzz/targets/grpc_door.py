"""Messages of gRPC: what the door lets pass, the runner can read or refuses as it should.

The first byte says whether there is a deadline, and whether it is a message of a stream.
"""

from __future__ import annotations

from modelyard.core.errors import RequestError
from modelyard.grpc.door import GrpcDoor
from tests.fuzz.refusals import check_refusal
from tests.fuzz.targets import v2_tensors


def run(data: bytes) -> None:
    choice, body = (data[0] if data else 0), data[1:]
    door = GrpcDoor(time_left_s=1.5 if choice & 1 else None, is_streamed=bool(choice & 2))
    door.open(body)
    door.is_quick(len(body))
    try:
        heard = door.read(body)
    except RequestError as error:
        check_refusal(error)
        assert door.problem(error, "fuzz")
        return
    if choice & 1:
        assert heard.timeout_s is not None
        assert 0 < heard.timeout_s <= 1.5
    v2_tensors.run(bytes(heard.input_data))
