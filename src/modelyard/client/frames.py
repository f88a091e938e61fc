"""Data frames of pandas and polars, as rows of JSON and back, without importing either."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec


def is_frame(data: Any) -> bool:
    """Return whether this is a data frame."""
    return hasattr(data, "columns") and (hasattr(data, "itertuples") or hasattr(data, "iter_rows"))


def lines_of(frame: Any) -> Iterator[bytes]:
    """Yield the rows of a data frame, each a JSON object and a line break.

    Raises:
        TypeError: A cell is nothing that JSON can say.
    """
    names = [str(name) for name in frame.columns]
    rows = frame.iter_rows() if hasattr(frame, "iter_rows") else _tuples(frame)
    encode = msgspec.json.Encoder(enc_hook=_builtin).encode
    for row in rows:
        yield encode(dict(zip(names, row, strict=True))) + b"\n"


def with_predictions(frame: Any, predictions: list[Any]) -> Any:
    """Return a copy of a data frame with a column ``prediction``."""
    if hasattr(frame, "with_columns"):
        return frame.with_columns(type(frame)({"prediction": predictions}).to_series())
    return frame.assign(prediction=predictions)


def _tuples(frame: Any) -> Iterator[tuple[Any, ...]]:
    return iter(frame.itertuples(index=False, name=None))


def _builtin(value: Any) -> Any:
    """Return what JSON can say of a cell."""
    if hasattr(value, "tolist"):  # of numpy
        return value.tolist()
    if hasattr(value, "to_list"):  # a series of polars
        return value.to_list()
    if type(value).__name__ in ("NAType", "NaTType"):  # pandas: nothing is there
        return None
    raise TypeError(f"a cell is {type(value).__name__}, which is no JSON")
