"""JSON that is nested too deep is refused, whatever its strings hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.errors import Malformed
from modelyard.gateway.nesting import DEEPEST_NESTING, SEARCHED_BYTES, check_nesting

LOTS = b" " * SEARCHED_BYTES


def true_depth(body: bytes) -> int:
    """Give the depth of nesting, byte by byte."""
    depth = deepest = 0
    is_string = is_escaped = False
    for byte in body.decode("latin-1"):
        if is_escaped:
            is_escaped = False
        elif is_string:
            is_escaped, is_string = byte == "\\", byte != '"'
        elif byte == '"':
            is_string = True
        elif byte in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in "]}":
            depth -= 1
    return deepest


def is_accepted(body: bytes) -> bool:
    try:
        check_nesting(body)
    except Malformed:
        return False
    return True


tricky = st.text('[]{}"\\a,', max_size=8)
values: st.SearchStrategy[Any] = st.recursive(
    tricky | st.integers(),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(tricky, inner, max_size=8),
    max_leaves=40,
)


@given(
    value=values,
    layers=st.lists(st.sampled_from(["list", "object"]), max_size=DEEPEST_NESTING + 3)
    | st.just(["list"] * (DEEPEST_NESTING - 1))
    | st.just(["object"] * DEEPEST_NESTING),
    siblings=values,
)
def test_json_is_accepted_up_to_the_limit_and_no_deeper(
    value: Any, layers: list[str], siblings: Any
) -> None:
    for layer in layers:
        value = [value] if layer == "list" else {"}]": value}
    body = json.dumps([value, siblings]).encode()
    is_fine = true_depth(body) <= DEEPEST_NESTING
    assert is_accepted(body) == is_accepted(body + LOTS) == is_fine


@given(st.lists(st.sampled_from(['"', "\\", "[", "]", "{", "}", "[" * 30, "]" * 30, "a", '""'])))
def test_nothing_at_all_is_accepted_that_is_deeper(pieces: list[str]) -> None:
    body = "".join(pieces).encode()
    assert is_accepted(body) == is_accepted(body + LOTS)
    assert true_depth(body) <= DEEPEST_NESTING or not is_accepted(body)


@pytest.mark.parametrize(
    ("body", "is_fine"),
    [
        (b"[" * 64 + b"]" * 64, True),
        (b"[" * 65 + b"]" * 65, False),
        (b'{"a":' * 64 + b"1" + b"}" * 64, True),
        (b'{"a":' * 65 + b"1" + b"}" * 65, False),
        (b"[" + b"[]," * 1000 + b"[]]", True),
        (b'["' + b"[" * 1000 + b'"]', True),
        (b'["\\"' + b"[" * 1000 + b'"]', True),
        (b'["\\\\"' + b"[" * 1000, False),
        (b"[" * 100_000, False),
    ],
)
def test_the_limit_is_on_nesting_not_on_brackets(body: bytes, is_fine: bool) -> None:
    assert is_accepted(body) is is_fine


pieces = st.sampled_from([b"[", b"]", b'"', b"\\", b"a", b"[]", b'"x\\"["', b"[" * 9, b"]" * 9])


@given(
    size=st.integers(min_value=1, max_value=9),
    around=st.sampled_from([0, 60, 64, 65]),
    inside=st.lists(pieces, max_size=60),
)
def test_where_a_body_is_cut_makes_no_difference(
    size: int, around: int, inside: list[bytes]
) -> None:
    body = b"[" * around + b"".join(inside) + b"]" * around
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("modelyard.gateway.nesting.SEARCHED_BYTES", size)
        in_pieces = is_accepted(body)
        patch.setattr("modelyard.gateway.nesting.SEARCHED_BYTES", len(body) + 1)
        assert in_pieces == is_accepted(body)
