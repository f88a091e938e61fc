"""From the inputs and outputs of an artefact to the annotations of ``predict``, and between what
these make of a request and the arrays that the artefact's library takes and gives.

One array is an array, several are ``Columns``. Numpy's arrays hold no text in a contract: where
there is some, instances are a list, of texts or of structs with a field for each input.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from modelyard.core.arrays import Arrays, Tensor
from modelyard.core.artefacts import ArtefactError
from modelyard.core.columns import Columns

TEXT = "str"


class Port(NamedTuple):
    """An input or output.

    Attributes:
        name: Empty if it is the only one, and any name will do.
        dtype: Numpy's name, or ``TEXT``.
        shape: Of one instance.
        choices: All the texts that there may be; empty if that is not known.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] = ()
    choices: tuple[str, ...] = ()


class Inputs:
    """What an artefact takes.

    Attributes:
        annotation: Of the argument of ``predict``.
        arrays: Returns the arrays, one for each port, of the instances that ``predict`` gets.
    """

    def __init__(self, ports: Sequence[Port]) -> None:
        import numpy as np

        self.ports = ports
        self.annotation = _annotate(ports, "Instance")
        self.arrays: Callable[[Any], list[Any]]
        names = _fields(ports)
        dtypes = [object if port.dtype == TEXT else port.dtype for port in ports]
        if len(ports) == 1 and ports[0].dtype != TEXT:
            self.arrays = lambda instances: [instances]
        elif len(ports) == 1:
            self.arrays = lambda instances: [np.array(instances, dtype=object)]
        elif _is_text_among(ports):
            self.arrays = lambda instances: [
                np.array([getattr(row, name) for row in instances], dtype)
                for name, dtype in zip(names, dtypes, strict=True)
            ]
        else:
            self.arrays = lambda instances: [getattr(instances, name) for name in names]

    def arrays_of_rows(self, rows: Sequence[Any]) -> list[Any]:
        """Return the arrays of instances that are written as in JSON.

        Raises:
            ArtefactError: They are not what the ports say.
        """
        import numpy as np

        arrays = []
        for port in self.ports:
            dtype = object if port.dtype == TEXT else port.dtype
            try:
                column = rows if len(self.ports) == 1 else [row[port.name] for row in rows]
                array = np.array(column, dtype)
            except (TypeError, ValueError, KeyError, IndexError, OverflowError) as error:
                raise ArtefactError(
                    f"the example under [signature] does not fit the input {port.name!r}"
                ) from error
            if array.shape != (len(rows), *port.shape):
                raise ArtefactError(
                    f"the example under [signature] has shape {array.shape} for the input "
                    f"{port.name!r}; expected {(len(rows), *port.shape)}"
                )
            arrays.append(array)
        return arrays

    def zeros(self, count: int) -> list[Any]:
        """Return arrays of zeros and of empty texts, or of the first choice."""
        import numpy as np

        return [
            np.full((count, *port.shape), port.choices[0] if port.choices else "", dtype=object)
            if port.dtype == TEXT
            else np.zeros((count, *port.shape), port.dtype)
            for port in self.ports
        ]

    def as_rows(self, arrays: Sequence[Any]) -> list[Any]:
        """Return the instances in arrays, as they are written in JSON."""
        columns = [array.tolist() for array in arrays]
        if len(columns) == 1:
            only: list[Any] = columns[0]
            return only
        names = [port.name for port in self.ports]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


class Outputs:
    """What an artefact gives.

    Attributes:
        annotation: Of what ``predict`` returns.
        predictions: Returns what ``predict`` returns, of the arrays that the library gave.
    """

    def __init__(self, ports: Sequence[Port]) -> None:
        self.annotation = _annotate(ports, "Prediction")
        self.predictions: Callable[[list[Any]], Any]
        names = [port.name for port in ports]
        if len(ports) == 1 and ports[0].dtype != TEXT:
            self.predictions = lambda arrays: arrays[0]
        elif len(ports) == 1:
            self.predictions = lambda arrays: arrays[0].tolist()
        elif _is_text_among(ports):
            self.predictions = lambda arrays: [
                dict(zip(names, row, strict=True))
                for row in zip(*[array.tolist() for array in arrays], strict=True)
            ]
        else:
            kind = self.annotation
            self.predictions = lambda arrays: kind(*arrays)


def _is_text_among(ports: Sequence[Port]) -> bool:
    return any(port.dtype == TEXT for port in ports)


def _annotate(ports: Sequence[Port], title: str) -> Any:
    """Return the annotation for the ports together.

    Raises:
        ArtefactError: They cannot be had together: of no name, or two of one.
    """
    import numpy as np

    if len(ports) == 1 and ports[0].dtype != TEXT:
        return Annotated[np.ndarray, _tensor_of(ports[0], ports[0].name)]
    if len(ports) == 1:
        return list.__class_getitem__(_element(ports[0]))
    names = [port.name for port in ports]
    if wrong := next((name for name in names if not name or names.count(name) > 1), None):
        raise ArtefactError(f"two inputs or outputs have the name {wrong!r}; write [signature]")
    fields = _fields(ports)
    rename = dict(zip(fields, names, strict=True))
    try:
        if _is_text_among(ports):
            elements = [(field, _element(port)) for field, port in zip(fields, ports, strict=True)]
            row = msgspec.defstruct(title, elements, rename=rename, forbid_unknown_fields=True)
            return list.__class_getitem__(row)
        arrays = [
            (field, Annotated[np.ndarray, _tensor_of(port, port.name)])
            for field, port in zip(fields, ports, strict=True)
        ]
        return msgspec.defstruct(title, arrays, bases=(Columns,), rename=rename, eq=False)
    except (TypeError, ValueError) as error:
        raise ArtefactError(f"the names {', '.join(names)[:200]} cannot be used in JSON") from error


def _fields(ports: Sequence[Port]) -> list[str]:
    """Return what the ports are in Python, where a name has to be an identifier."""
    return [f"field_{number}" for number in range(len(ports))]


def _tensor_of(port: Port, name: str) -> Tensor:
    return Tensor(port.dtype, port.shape, name)


def _element(port: Port) -> Any:
    """Return the type of one instance of a port, as JSON has it."""
    if port.dtype != TEXT:
        return typing.get_args(Arrays(_tensor_of(port, "")).annotation)[0]
    element: Any = Literal[port.choices] if port.choices else str
    for length in reversed(port.shape):
        bounds = msgspec.Meta(min_length=length, max_length=length)
        element = Annotated[list.__class_getitem__(element), bounds]
    return element
