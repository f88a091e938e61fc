"""The contract of models that answer in pieces: one instance in, pieces out, each written as JSON.

It is read from the annotations of ``stream``, or of ``admit`` and ``step`` of a ``StreamingModel``.
"""

from __future__ import annotations

import collections.abc
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

from modelyard.core.lists import ContractError, Side, UnfitPredictions
from modelyard.core.stream import LARGEST_PIECE_BYTES

_ITERATORS = (
    collections.abc.Iterator,
    collections.abc.Iterable,
    collections.abc.Generator,
    collections.abc.AsyncIterator,
    collections.abc.AsyncIterable,
    collections.abc.AsyncGenerator,
)


class StreamTypes(NamedTuple):
    """What a stream takes and gives, as annotated; ``name`` is the method's, for messages."""

    takes: Any
    gives: Any
    name: str


class PieceContract:
    """The pieces of one model.

    Args:
        gives: Of a piece, as an element of its list.
        schema: JSON Schema of a piece.
    """

    def __init__(self, gives: Side, *, schema: bytes) -> None:
        self.schema = schema
        self._gives = gives

    def encode(self, piece: Any) -> bytes:
        """Write a piece as JSON.

        Raises:
            UnfitPredictions: It does not match its annotation, or is too large.
        """
        try:
            output = self._gives.encode([piece], "json", is_checked=True)[1:-1]
        except UnfitPredictions as error:
            text = str(error).replace("a prediction", "a piece").replace("prediction[0]", "piece")
            raise UnfitPredictions(text) from None
        if len(output) > LARGEST_PIECE_BYTES:
            raise UnfitPredictions(
                f"a piece takes {len(output)} bytes, over the limit of {LARGEST_PIECE_BYTES}"
            )
        return output


def stream_types_of(model_class: type) -> StreamTypes | None:
    """Return the annotations of a model's stream; None if it answers as a whole only.

    Raises:
        ContractError: They are missing or unsupported.
    """
    if hasattr(model_class, "admit"):
        return _of_engine(model_class)
    stream = getattr(model_class, "stream", None)
    if stream is None:
        return None
    name = f"{model_class.__name__}.stream"
    example = "def stream(self, instance: str) -> Iterator[str]:"
    hints, parameters = _annotations(stream, name)
    if len(parameters) != 1 or parameters[0] not in hints or "return" not in hints:
        raise ContractError(f"{name}: write {example}")
    if inspect.iscoroutinefunction(stream):
        raise ContractError(f"{name} returns one thing; write {example} and yield the pieces")
    gives = hints["return"]
    if typing.get_origin(gives) not in _ITERATORS:
        raise ContractError(f"{name}: what it returns is annotated {gives!r}; write {example}")
    return StreamTypes(hints[parameters[0]], typing.get_args(gives)[0], name)


def _of_engine(model_class: type) -> StreamTypes:
    name = f"{model_class.__name__}.admit"
    hints, parameters = _annotations(model_class.admit, name)  # type: ignore[attr-defined]
    if len(parameters) != 2 or parameters[1] not in hints:
        raise ContractError(f"{name}: write def admit(self, stream: int, instance: str) -> None:")
    takes = hints[parameters[1]]
    name = f"{model_class.__name__}.step"
    hints, _ = _annotations(model_class.step, name)  # type: ignore[attr-defined]
    pair = typing.get_args(hints.get("return"))[:1]
    parts = typing.get_args(pair[0]) if pair else ()
    if len(parts) != 2:
        raise ContractError(f"{name}: write def step(self) -> Iterable[tuple[int, str | None]]:")
    return StreamTypes(takes, _without_none(parts[1]), name)


def _annotations(method: Callable[..., Any], name: str) -> tuple[dict[str, Any], list[str]]:
    try:
        hints = typing.get_type_hints(method, include_extras=True)
    except (NameError, AttributeError, SyntaxError, TypeError) as error:
        raise ContractError(f"{name}: {error}; import it where the class is defined") from error
    return hints, list(inspect.signature(method).parameters)[1:]


def _without_none(annotation: Any) -> Any:
    """Return a union without None: that ends a stream, and is no piece."""
    if typing.get_origin(annotation) not in (typing.Union, types.UnionType):
        return annotation
    kept = [part for part in typing.get_args(annotation) if part is not type(None)]
    return typing.Union[tuple(kept)]  # noqa: UP007 (of a tuple)
