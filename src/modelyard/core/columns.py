"""Models of several arrays: the side of a contract that a subclass of ``Columns`` is.

In JSON instances stand one by one, each with all of its fields; in MessagePack too, or by column: a
map of arrays (``core/packed.py``), and then nothing is parsed.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Sequence
from typing import Any, Self

import msgspec

from modelyard.core.arrays import Arrays, Tensor
from modelyard.core.errors import InvalidInput
from modelyard.core.lists import ContractError, Instances, Lists, UnfitPredictions
from modelyard.core.messages import Form


class Columns(msgspec.Struct, kw_only=True, eq=False):
    """Several named arrays with one batch axis. Subclass it, and declare each::

        class Scene(Columns):
            image: Annotated[np.ndarray, Tensor("float32", (3, 224, 224))]
            boxes: Annotated[np.ndarray, Tensor("int64", (4,))]

    ``predict`` may take one and give one. Its length is that of the batch; a slice of it has all
    of the arrays, sliced.
    """

    def __len__(self) -> int:
        return len(getattr(self, self.__struct_fields__[0]))

    def __getitem__(self, index: slice) -> Self:
        return type(self)(**{name: getattr(self, name)[index] for name in self.__struct_fields__})


class ColumnArrays:
    """``Columns``: arrays by name; requests are stacked along axis 0 of each and split again.

    Attributes:
        tensors: As they are declared, by the names of the fields.
    """

    is_array = True

    def __init__(self, kind: type[Columns]) -> None:
        self._kind = kind
        self.tensors = _declared(kind)
        self._arrays = {name: Arrays(tensor) for name, tensor in self.tensors.items()}
        # What fields are called in requests: `rename` of the subclass may say so.
        self._sent = dict(zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True))
        row = msgspec.defstruct(
            kind.__name__,
            [(name, typing.get_args(side.annotation)[0]) for name, side in self._arrays.items()],
            forbid_unknown_fields=True,
            rename=self._sent,
            namespace={"__doc__": inspect.getdoc(kind)} if kind.__doc__ else None,
        )
        self._lists = Lists(list[row])  # type: ignore[valid-type]
        self.annotation = self._lists.annotation
        self._columns = msgspec.msgpack.Decoder(dict[str, msgspec.Raw]).decode

    def make(self, arrays: Sequence[Any]) -> Columns:
        """Return the columns made of these arrays, in the order of the fields."""
        return self._kind(**dict(zip(self.tensors, arrays, strict=True)))

    def decode(self, raw: bytes | memoryview, form: Form) -> Instances:
        """Return the instances in ``raw``; see Side."""
        if form == "msgpack" and raw and _is_map(raw[0]):
            return self._by_column(raw)
        rows: Any = self._lists.decode(raw, form)
        return self.make(
            [
                side.of_rows([getattr(row, name) for row in rows])
                for name, side in self._arrays.items()
            ]
        )

    def _by_column(self, raw: bytes | memoryview) -> Columns:
        columns = self._columns(raw)
        if set(columns) != set(self._sent.values()):
            raise InvalidInput(
                f"there are the columns {', '.join(columns)}; the model takes "
                f"{', '.join(self._sent.values())}",
                where="$.input_data",
            )
        arrays = []
        for field, side in self._arrays.items():
            name = self._sent[field]
            try:
                arrays.append(side.decode(memoryview(columns[name]), "msgpack"))
            except (InvalidInput, ValueError) as error:
                detail = error.detail if isinstance(error, InvalidInput) else str(error)
                raise InvalidInput(detail, where=f"$.input_data.{name}") from None
        if len({len(array) for array in arrays}) > 1:
            raise InvalidInput(
                "axis 0, the batch, is as long in all columns; there are "
                + ", ".join(
                    f"{len(array)} in {self._sent[field]}"
                    for field, array in zip(self._arrays, arrays, strict=True)
                ),
                where="$.input_data",
            )
        return self.make(arrays)

    def rows(self, value: Any) -> list[dict[str, Any]]:
        """Return the instances of columns, one by one."""
        columns = [getattr(value, name).tolist() for name in self.tensors]
        names = self._sent.values()
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]

    def _declared_rows(self, value: Any) -> list[dict[str, Any]]:
        """Return predictions one by one, in the declared dtypes."""
        return self.rows(
            self.make([s.as_declared(getattr(value, name)) for name, s in self._arrays.items()])
        )

    def encode(self, value: Any, form: Form, *, is_checked: bool) -> bytes:
        """Write predictions; ``check`` has looked at them already. See Side."""
        if form != "msgpack":
            return self._lists.encode(self._declared_rows(value), form, is_checked=False)
        return msgspec.msgpack.encode(
            {
                self._sent[name]: msgspec.Raw(
                    side.encode(getattr(value, name), form, is_checked=False)
                )
                for name, side in self._arrays.items()
            }
        )

    def join(self, parts: Sequence[Instances]) -> Instances:
        """Stack each column along axis 0."""
        return self.make(
            [
                side.join([getattr(part, name) for part in parts])
                for name, side in self._arrays.items()
            ]
        )

    def check(self, value: Any, *, count: int) -> str | None:
        """Say what is wrong with ``value`` as ``count`` predictions, or None; see Side."""
        if not isinstance(value, self._kind):
            return f"returned {type(value).__name__} where {self._kind.__name__} is expected"
        for name, side in self._arrays.items():
            try:
                problem = side.check(getattr(value, name), count=count)
            except UnfitPredictions as error:
                raise UnfitPredictions(f"{error}, in {self._sent[name]}") from None
            if problem:
                return f"{problem}, in {self._sent[name]}"
        return None


def _declared(kind: type[Columns]) -> dict[str, Tensor]:
    """Return the declaration of each field."""
    declared = {}
    hints = typing.get_type_hints(kind, include_extras=True)
    for name in kind.__struct_fields__:
        extras = getattr(hints[name], "__metadata__", ())
        tensors = [extra for extra in extras if isinstance(extra, Tensor)]
        if not tensors:
            raise ContractError(
                f"{kind.__name__}.{name} is no declared array; write "
                f'{name}: Annotated[np.ndarray, Tensor("float32", (4,))]'
            )
        declared[name] = tensors[0]
    names = [tensor.name or name for name, tensor in declared.items()]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ContractError(f"{kind.__name__} has two tensors of the name {twice!r}")
    if not declared:
        raise ContractError(f"{kind.__name__} declares no array")
    return declared


def _is_map(marker: int) -> bool:
    return marker & 0xF0 == 0x80 or marker in (0xDE, 0xDF)
