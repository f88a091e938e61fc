"""Counts the instances of an input without decoding them."""

from __future__ import annotations

import msgspec

from modelyard.core.messages import Form
from modelyard.core.packed import leading_length
from modelyard.core.v2 import count_rows

COUNTED_BYTES = 64 * 1024
MANY = 1 << 30

_instances = msgspec.json.Decoder(list[msgspec.Raw])


def count_instances(raw: memoryview, form: Form) -> int:
    """Count the instances of an input.

    Large JSON is not counted, since that would block the event loop and take 40 times its size in
    memory. It counts as more than any batch holds, so it runs as a batch by itself.
    """
    if form == "json":
        if len(raw) > COUNTED_BYTES:
            return MANY
        try:
            return max(1, len(_instances.decode(raw)))
        except msgspec.DecodeError:
            return 1  # no list: the runner will say what it should have been
    if form == "v2":
        count = count_rows(raw, most_bytes=COUNTED_BYTES)
        return MANY if count is None else max(1, count)
    return max(1, leading_length(raw) or 1)
