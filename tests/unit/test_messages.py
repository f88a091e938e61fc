"""Frames between pool and runner."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.errors import Failure
from modelyard.core.messages import (
    FRAME_HEADER_BYTES,
    LARGE_BYTES,
    Answers,
    Batch,
    Form,
    LoadFailed,
    Ready,
    Stop,
    encode_batch,
    encode_frame,
    to_pool,
    to_runner,
)

seconds = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
failures = st.builds(
    Failure,
    code=st.text(),
    detail=st.text(),
    where=st.none() | st.text(),
    retry_after_s=st.none() | st.integers(min_value=0, max_value=3600),
)
from_runner = st.one_of(
    st.builds(
        Ready,
        digest=st.text(),
        input_schema=st.binary(),
        output_schema=st.binary(),
        example=st.binary(),
        warm_up_s=seconds,
    ),
    st.builds(LoadFailed, reason=st.text()),
    st.builds(
        Answers,
        outcomes=st.lists(st.binary() | failures),
        model_s=seconds,
        sizes=st.lists(st.integers(min_value=1, max_value=10**6)),
    ),
)


def unframe(frame: bytearray) -> memoryview:
    header, body = frame[:FRAME_HEADER_BYTES], memoryview(frame)[FRAME_HEADER_BYTES:]
    assert int.from_bytes(header, "big") == len(body)
    return body


@given(st.lists(st.binary()))
def test_a_batch_survives_its_frame(inputs: list[bytes]) -> None:
    received = to_runner.decode(unframe(encode_frame(Batch([memoryview(raw) for raw in inputs]))))
    assert isinstance(received, Batch)
    assert [bytes(raw) for raw in received.inputs] == inputs


def test_a_stop_survives_its_frame() -> None:
    assert to_runner.decode(unframe(encode_frame(Stop()))) == Stop()


@given(from_runner)
def test_what_a_runner_says_survives_its_frame(message: Ready | LoadFailed | Answers) -> None:
    assert to_pool.decode(unframe(encode_frame(message))) == message


@given(
    st.lists(st.binary(max_size=40), max_size=20),
    st.sampled_from([0, 1, LARGE_BYTES, LARGE_BYTES + 1]),
    st.booleans(),
    st.booleans(),
)
def test_a_batch_survives_the_way_however_large(
    inputs: list[bytes], more: int, has_forms: bool, has_deadlines: bool
) -> None:
    inputs = [*inputs, bytes(more)]
    forms: list[Form] = ["msgpack"] * len(inputs) if has_forms else []
    deadlines = [1.5] * len(inputs) if has_deadlines else []
    batch = Batch([memoryview(raw) for raw in inputs], forms, deadlines)
    frame = b"".join(encode_batch(batch))
    assert int.from_bytes(frame[:FRAME_HEADER_BYTES], "big") == len(frame) - FRAME_HEADER_BYTES
    assert to_runner.decode(frame[FRAME_HEADER_BYTES:]) == batch
