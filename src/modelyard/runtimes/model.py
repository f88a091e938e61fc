"""What the models of all runtimes have in common: ``RuntimeModel``.

``load`` reads the artefact, makes the annotations of it, and asks it once for two instances, which
tells the outputs that the artefact keeps to itself.
"""

from __future__ import annotations

import contextlib
import logging
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from modelyard.core.artefacts import ArtefactError
from modelyard.core.signature import Field, Signature
from modelyard.model import Model
from modelyard.runtimes.sides import TEXT, Inputs, Outputs, Port

log = logging.getLogger(__name__)


class Artefact(NamedTuple):
    """An artefact, and how it is to be served.

    Attributes:
        path: Of the file, or of MLflow's folder.
        shown: What it is called in messages: its path in the model's folder.
        is_bare: Whether there is no folder around it, so that its digest covers nothing else.
        signature: ``[signature]`` in ``model.toml``.
        threads: How many threads the library may use.
        wants_gpu: Whether the runner has a device.
        may_fall_back: Whether it runs on the CPU if the library cannot use the device.
        may_unpickle: Whether it may be a pickle: it says so, and is signed.
    """

    path: Path
    shown: str
    is_bare: bool
    signature: Signature
    threads: int
    wants_gpu: bool
    may_fall_back: bool
    may_unpickle: bool


class Axes(NamedTuple):
    """An input or output as the artefact has it: None stands for a length that it does not tell.

    Attributes:
        name: Empty for one without.
        dtype: Numpy's name, ``TEXT``, or empty if it is not known.
        shape: With the batch, axis 0; None if not even its rank is known.
        choices: All the texts that there may be; empty if that is not known.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None
    choices: tuple[str, ...] = ()


class Found(NamedTuple):
    """What an artefact says of itself.

    Attributes:
        inputs: In the order in which ``run`` takes them.
        outputs: In the order in which ``run`` gives them. What they do not tell is found out.
        most: Most instances at a time; None for any number.
    """

    inputs: list[Port]
    outputs: list[Axes]
    most: int | None = None


class RuntimeModel(Model):
    """A model that is an artefact.

    Attributes:
        takes: Annotation of the argument of ``predict``; set by ``load``.
        gives: Annotation of what it returns; set by ``load``.
    """

    takes: Any
    gives: Any

    def __init__(self, artefact: Artefact) -> None:
        self._artefact = artefact
        self._answer: Callable[[list[Any]], list[Any]] = self.run

    @abstractmethod
    def read(self, artefact: Artefact) -> Found:
        """Open the artefact, and return what it says of itself.

        Raises:
            ArtefactError: It cannot be served.
        """

    @abstractmethod
    def run(self, arrays: list[Any]) -> list[Any]:
        """Return the outputs for inputs, both as numpy arrays whose axis 0 is the batch."""

    def load(self) -> None:
        """Read the artefact, and find out what it takes and gives.

        Raises:
            ArtefactError: It cannot be served.
        """
        given = self._artefact.signature
        found = self.read(self._artefact)
        if found.most is not None:
            self._answer = partial(self._run_in_pieces, most=found.most)
        self._inputs = Inputs(found.inputs)
        rows = self._inputs.arrays_of_rows(given.example) if given.example else None
        outputs = self._find_outputs(found.outputs, rows)
        gives = Outputs(outputs)
        self.takes, self.gives = self._inputs.annotation, gives.annotation
        self._arrays, self._predictions = self._inputs.arrays, gives.predictions
        example = given.example or self._inputs.as_rows(self._inputs.zeros(1))
        self.example = example  # type: ignore[misc]  # each artefact has its own

    def predict(self, instances: Any) -> Any:
        """See ``Model``. It has no annotations: ``takes`` and ``gives`` stand for them."""
        return self._predictions(self._answer(self._arrays(instances)))

    def _run_in_pieces(self, arrays: list[Any], *, most: int) -> list[Any]:
        import numpy as np

        count = len(arrays[0])
        pieces = [
            self.run([array[start : start + most] for array in arrays])
            for start in range(0, count, most)
        ]
        return [np.concatenate(parts) for parts in zip(*pieces, strict=True)]

    def _find_outputs(self, outputs: Sequence[Axes], rows: list[Any] | None) -> list[Port]:
        """Return the outputs, completed with what comes out for two instances."""
        import numpy as np

        arrays = self._inputs.zeros(2) if rows is None else [np.repeat(a[:1], 2, 0) for a in rows]
        shown = self._artefact.shown
        try:
            made = self._answer(arrays)
        except ArtefactError:
            raise
        except Exception as error:
            kind = "zeros" if rows is None else "the example under [signature]"
            todo = "; give an example under [signature]" if rows is None else ""
            raise ArtefactError(f"{shown} does not answer {kind}{todo}") from error
        ports = []
        given = self._artefact.signature.outputs
        if given and len(given) != len(outputs):
            raise ArtefactError(
                f"[signature] has {len(given)} outputs, and {shown} has {len(outputs)}"
            )
        for number, (axes, array) in enumerate(zip(outputs, made, strict=True)):
            field = _field_of(axes.name, number, given) if given else None
            ports.append(_output_port(axes, array, field, shown))
        return ports


def _output_port(axes: Axes, array: Any, field: Field | None, shown: str) -> Port:
    """Return an output: as the artefact has it, else as ``array`` is, for two instances."""
    name = (field.name if field else "") or axes.name
    what = f"output {name!r} of {shown}" if name else f"the output of {shown}"
    if array.ndim == 0 or len(array) != 2:
        raise ArtefactError(
            f"{what} has shape {array.shape} for two instances; axis 0 has to be the batch"
        )
    is_text = array.dtype.kind in "OUS"
    dtype = TEXT if is_text else array.dtype.name
    shape = tuple(array.shape[1:])
    if field is not None:
        if field.dtype != dtype or field.shape != shape:
            raise ArtefactError(
                f"{what} is {dtype} of shape {list(shape)}; [signature] says {field.dtype} of "
                f"shape {list(field.shape)}"
            )
    elif axes.shape is not None and len(axes.shape) == array.ndim:
        told = tuple(a or b for a, b in zip(axes.shape[1:], shape, strict=True))
        shape = told
    return Port(name, dtype, shape, axes.choices if is_text else ())


def _field_of(name: str, number: int, given: Sequence[Field]) -> Field:
    """Return what [signature] says of an output: by its name, else by its place."""
    return next((field for field in given if name and field.name == name), given[number])


def complete(inputs: Sequence[Axes], given: Sequence[Field], shown: str) -> list[Port]:
    """Return inputs, with the lengths that the artefact does not tell from ``[signature]``: of the
    input of the same name, or, if it has no names, at the same place.

    Raises:
        ArtefactError: A length is told by neither, or they contradict each other.
    """
    names = [axes.name for axes in inputs]
    by_name = {field.name: field for field in given if field.name}
    if unknown := [name for name in by_name if any(names) and name not in names]:
        raise ArtefactError(
            f"[signature] names the input {unknown[0]!r}; {shown} takes {', '.join(names)}"
        )
    if len(by_name) < len(given) != len(inputs):
        raise ArtefactError(f"[signature] has {len(given)} inputs, and {shown} has {len(inputs)}")
    by_place = given if len(given) == len(inputs) and not (by_name and any(names)) else ()
    return [
        _complete(axes, by_name.get(axes.name) or (by_place[number] if by_place else None), shown)
        for number, axes in enumerate(inputs)
    ]


def _complete(axes: Axes, field: Field | None, shown: str) -> Port:
    what = f"input {axes.name!r} of {shown}"
    shape = None if axes.shape is None else axes.shape[1:]
    if field is not None:
        fits = shape is None or len(shape) == len(field.shape)
        fits = fits and all(a in (None, b) for a, b in zip(shape or (), field.shape, strict=False))
        if not fits or axes.dtype not in ("", field.dtype):
            raise ArtefactError(
                f"{what} is {axes.dtype} of shape {_show(shape)}; [signature] says {field.dtype} "
                f"of shape {list(field.shape)}"
            )
        return Port(axes.name or field.name, field.dtype, field.shape)
    if shape is None or not axes.dtype or not all(shape):
        entry = f'{{name = "{axes.name}", dtype = "{axes.dtype or "float32"}", shape = […]}}'
        raise ArtefactError(
            f"{what} has shape {_show(shape)}, and the artefact does not tell all of it: write "
            f"inputs = [{entry}] under [signature], the shape of one instance"
        )
    return Port(axes.name, axes.dtype, tuple(length for length in shape if length))


def most_of(inputs: Sequence[Axes], shown: str) -> int | None:
    """Return 1 for what was exported for one instance at a time, None for any number.

    Raises:
        ArtefactError: It was exported for a fixed number of several, or without a batch.
    """
    most = None
    for axes in inputs:
        batch = axes.shape[0] if axes.shape else 0
        if batch == 1:
            most = 1
        elif batch is not None:
            raise ArtefactError(
                f"input {axes.name!r} of {shown} has shape {list(axes.shape or ())}; axis 0 has to "
                "be the batch, of any length: export it with a dynamic axis"
            )
    return most


def _show(shape: Sequence[int | None] | None) -> str:
    return "?" if shape is None else f"[{', '.join(str(n or '?') for n in shape)}]"


@contextlib.contextmanager
def library(extra: str) -> Iterator[None]:
    """Import a runtime's library in the ``with`` block.

    Raises:
        ArtefactError: It is not installed; the text says how to install it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ArtefactError(
            f"runtime = {extra!r} needs {error.name}, which is not installed: "
            f"pip install 'modelyard[{extra}]', or name it in the model's requirements.txt"
        ) from None


def choose_device(artefact: Artefact, *, can_use_gpu: bool, why_not: str) -> bool:
    """Return whether the runner's GPU is used.

    Raises:
        ArtefactError: It should be and cannot be, and there is no falling back.
    """
    if not artefact.wants_gpu or can_use_gpu:
        return artefact.wants_gpu
    if not artefact.may_fall_back:
        raise ArtefactError(
            f"[resources] gpu asks for a device, and {why_not}; "
            'with without_gpu = "cpu" under [resources] it runs on the CPU'
        )
    log.warning("%s: it runs on the CPU", why_not)
    return False
