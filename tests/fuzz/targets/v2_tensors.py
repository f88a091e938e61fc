"""Tensors as a runner gets them, decoded for each kind of model."""

from __future__ import annotations

from modelyard.core.errors import InvalidInput, Malformed
from modelyard.core.v2 import LENGTH_BYTES, count_rows, pack, read_question, unpack
from tests.fuzz.models import CONTRACTS
from tests.fuzz.refusals import check_refusal


def run(data: bytes) -> None:
    rows = count_rows(memoryview(data), most_bytes=len(data))
    assert rows is not None
    head, tail = unpack(data)
    if len(head) + len(tail) == len(data) - LENGTH_BYTES:
        assert unpack(pack(head, tail)) == (head, tail)
    try:
        question, _ = read_question(data)
    except (Malformed, InvalidInput) as error:
        check_refusal(error)
        return
    for contract in CONTRACTS:
        try:
            instances, wanted = contract.decode_tensors(data)
        except (Malformed, InvalidInput) as error:
            check_refusal(error)
            assert "own check" not in error.detail, error  # these models have none
            continue
        assert wanted
        assert question.raw or len(instances) == rows
