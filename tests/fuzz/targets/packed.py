"""Arrays in MessagePack: damaged ones are refused, others are what numpy makes of them."""

from __future__ import annotations

import numpy as np

from modelyard.core.packed import leading_length, read_packed, to_lists


def run(data: bytes) -> None:
    raw = memoryview(data)
    length = leading_length(raw)
    assert length is None or length >= 0
    try:
        packed = read_packed(raw)
        if packed is None:
            return
        assert length == (packed.shape[0] if packed.shape else None)
        lists = to_lists(packed)
    except ValueError:
        return
    array = np.frombuffer(packed.data, packed.dtype).reshape(packed.shape)
    np.testing.assert_array_equal(np.array(lists, array.dtype).reshape(array.shape), array)
