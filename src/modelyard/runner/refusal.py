"""What a caller is told whose instance the model has refused."""

from __future__ import annotations

from modelyard.core.errors import InvalidInput


def refusal(error: InvalidInput, *, first: int, count: int) -> InvalidInput:
    """Return the caller's version of an ``InvalidInput`` that the model raised."""
    detail = error.detail.encode(errors="backslashreplace").decode()
    where = error.where
    if error.instance is not None:
        is_there = 0 <= error.instance < count
        where = f"$.input_data[{first + error.instance}]" if is_there else None
    return InvalidInput(detail, where=where or "$.input_data")
