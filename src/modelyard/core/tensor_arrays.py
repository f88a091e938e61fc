"""Models of numpy arrays over tensors: an array is one tensor, ``Columns`` one for each field."""

from __future__ import annotations

from typing import Any

from modelyard.core.arrays import Tensor
from modelyard.core.columns import ColumnArrays
from modelyard.core.datatypes import LARGEST_EXACT, Datatype, of_numpy
from modelyard.core.errors import InvalidInput
from modelyard.core.lists import Instances
from modelyard.core.tensor_data import MadeTensor, check_size, values_of
from modelyard.core.tensors import Cell, Spec, agree
from modelyard.core.v2 import GivenTensor


class ArrayTensors:
    """The tensor of an array.

    Args:
        tensor: As it is declared.
        name: Where the declaration gives none.
    """

    def __init__(self, tensor: Tensor, *, name: str) -> None:
        self.is_named = bool(tensor.name)
        self._cell = cell_of_tensor(tensor)
        self.specs: tuple[Spec, ...] = (Spec(tensor.name or name, self._cell),)

    def read(self, given: dict[str, GivenTensor]) -> Instances:
        """Return the instances; see ``Tensors``."""
        (only,) = given.values()
        instances: Instances = read_array(only, self._cell)
        return instances

    def read_usual(self, head: bytes | memoryview) -> Instances | None:
        """See ``Tensors``: arrays are read one way alone."""
        return None

    def write(self, value: Any, *, is_checked: bool, is_json: bool) -> list[MadeTensor]:
        """Return predictions as a tensor; see ``Tensors``. ``Arrays.check`` has checked them."""
        return [made_of(value, self._cell)]


class ColumnTensors:
    """The tensors of ``Columns``."""

    is_named = True

    def __init__(self, side: ColumnArrays) -> None:
        self._side = side
        self.specs = tuple(
            Spec(tensor.name or name, cell_of_tensor(tensor))
            for name, tensor in side.tensors.items()
        )

    def read(self, given: dict[str, GivenTensor]) -> Instances:
        """Return the instances; see ``Tensors``."""
        return self._side.make([read_array(given[spec.name], spec.cell) for spec in self.specs])

    def read_usual(self, head: bytes | memoryview) -> Instances | None:
        """See ``Tensors``: there are several inputs."""
        return None

    def write(self, value: Any, *, is_checked: bool, is_json: bool) -> list[MadeTensor]:
        """Return predictions as tensors; see ``Tensors``. The side has checked them."""
        return [
            made_of(getattr(value, name), spec.cell)
            for name, spec in zip(self._side.tensors, self.specs, strict=True)
        ]


def cell_of_tensor(tensor: Tensor) -> Cell:
    """Return how an instance is held in a tensor."""
    import numpy as np

    dtype = np.dtype(tensor.dtype)
    return Cell(of_numpy(dtype.kind, dtype.itemsize), tensor.shape, "numbers")


def read_array(given: GivenTensor, cell: Cell) -> Any:
    """Return an input as an array of the model's dtype. A binary input of this dtype is not
    copied.

    Raises:
        InvalidInput: It is not what the model takes.
    """
    import numpy as np

    datatype, shape = agree(given, cell)
    if given.is_binary:
        check_size(given, datatype, shape)
        array = np.frombuffer(given.data, dtype=datatype.numpy)
        if datatype.kind == "bool" and array.view("uint8").max(initial=0) > 1:
            raise InvalidInput("the bytes of a BOOL are 0 or 1", where=given.place)
    else:
        array = np.asarray(values_of(given, datatype, shape), dtype=datatype.numpy)
    if datatype != cell.datatype:
        _check_exact(array, given, datatype, cell)
    return array.reshape(shape).astype(cell.datatype.numpy, copy=False)


def _check_exact(array: Any, given: GivenTensor, datatype: Datatype, cell: Cell) -> None:
    """Raise InvalidInput if a whole number of 64 bits is not in FP64."""
    is_whole = datatype.kind in ("int", "uint") and datatype.size == 8
    if is_whole and cell.datatype.kind == "float" and len(array):
        for found in (int(array.min()), int(array.max())):
            if not -LARGEST_EXACT <= found <= LARGEST_EXACT:
                raise InvalidInput(
                    f"{found} of {datatype.name} is not in {cell.datatype.name}, "
                    "which the model takes",
                    where=given.place,
                )


def made_of(array: Any, cell: Cell) -> MadeTensor:
    """Return an array as an output."""
    import numpy as np

    values = np.ascontiguousarray(array, dtype=cell.datatype.numpy)
    return MadeTensor(cell.datatype, array.shape, values)
