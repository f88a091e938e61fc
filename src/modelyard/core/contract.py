"""Decodes JSON, MessagePack or a raw body into the argument of ``Model.predict``, and encodes what
it returns.

The annotations of ``predict`` are the contract: ``list[T]`` with any T that msgspec understands
(``core/lists.py``), or a numpy array with a declared dtype and instance shape
(``core/arrays.py``). Decoding, validation and schemas are derived from them. All of this runs in
the runner, the only process that knows the model's types.
"""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Sequence
from typing import Any

import msgspec

from modelyard.core.annotations import advise_on_elements, is_generator
from modelyard.core.arrays import Arrays, Tensor
from modelyard.core.columns import ColumnArrays, Columns
from modelyard.core.errors import InvalidInput, Malformed, RequestError
from modelyard.core.lists import ContractError, Instances, Lists, Side, to_json
from modelyard.core.messages import Form
from modelyard.core.pieces import PieceContract, StreamTypes, stream_types_of
from modelyard.core.refused import refuse, refuse_tensors
from modelyard.core.tensor_arrays import ArrayTensors, ColumnTensors
from modelyard.core.tensor_data import write_outputs
from modelyard.core.tensor_lists import ListTensors
from modelyard.core.tensors import Tensors, choose, describe, match
from modelyard.core.v2 import Wanted, pack, read_question, unpack

_EXAMPLE = "def predict(self, instances: list[list[float]]) -> list[int]:"


class Contract:
    """The input and output types of one model.

    Attributes:
        pieces: Those of a streamed answer; None if there are no streams.
    """

    def __init__(
        self, *, takes: Side, gives: Side, takes_tensors: Tensors, gives_tensors: Tensors
    ) -> None:
        self.pieces: PieceContract | None = None
        self._takes = takes
        self._gives = gives
        self._takes_tensors = takes_tensors
        self._gives_tensors = gives_tensors
        self._all_outputs: dict[bool, list[Wanted]] = {}  # by whether they are binary

    @property
    def takes_arrays(self) -> bool:
        """Whether ``predict`` takes a numpy array."""
        return self._takes.is_array

    @property
    def input_schema(self) -> bytes:
        """JSON Schema of ``input_data``."""
        return _schema(self._takes.annotation, min_items=1)

    @property
    def output_schema(self) -> bytes:
        """JSON Schema of ``prediction``."""
        return _schema(self._gives.annotation, min_items=0)

    @property
    def tensors(self) -> bytes:
        """JSON of ``inputs`` and ``outputs`` as tensors."""
        takes, gives = describe(self._takes_tensors), describe(self._gives_tensors)
        return msgspec.json.encode({"inputs": takes, "outputs": gives})

    def decode_tensors(self, raw: bytes | memoryview) -> tuple[Instances, list[Wanted]]:
        """Return the instances in a request of tensors (``core/v2.py``), and the outputs it wants.

        Raises:
            Malformed, InvalidInput: See ``decode``.
        """
        head, tail = unpack(memoryview(raw))
        in_json = self._all_outputs.get(False)
        if in_json is not None and not tail and (usual := self._takes_tensors.read_usual(head)):
            return usual, in_json
        question, given = read_question(raw)
        wanted = self._all_outputs.get(question.binary) if not question.outputs else None
        if wanted is None:
            wanted = choose(question, self._gives_tensors)
            if not question.outputs:
                self._all_outputs[question.binary] = wanted
        found = match(given, self._takes_tensors)
        try:
            instances = self._takes_tensors.read(found)
        except msgspec.ValidationError as error:
            raise refuse_tensors(error, self._takes.annotation) from None
        except RequestError:
            raise
        except Exception as error:  # from the __post_init__ of the model's own struct
            problem = f"the model's own check raised {type(error).__name__}"
            raise InvalidInput(problem, where="$.inputs") from error
        if not len(instances):
            raise InvalidInput("there are no instances", where="$.inputs")
        return instances, wanted

    def encode_tensors(
        self, predictions: Any, wanted: Sequence[Wanted], *, is_checked: bool = True
    ) -> bytes:
        """Write the outputs that are wanted; see ``encode``."""
        is_json = not any(output.is_binary for output in wanted)
        made = self._gives_tensors.write(predictions, is_checked=is_checked, is_json=is_json)
        return pack(*write_outputs(made, wanted))

    def decode_one(self, raw: bytes | memoryview, form: Form) -> Any:
        """Return the instance of a request that is answered in pieces; see ``decode``."""
        instances = self.decode_tensors(raw)[0] if form == "v2" else self.decode(raw, form)
        if len(instances) != 1:
            problem = f"a streamed request holds one instance, this one {len(instances)}"
            raise InvalidInput(problem, where="$.input_data")
        return instances[0]  # type: ignore[index]

    def decode(self, raw: bytes | memoryview, form: Form = "json") -> Instances:
        """Return the instances in ``raw``, which is of any form but ``v2``.

        Raises:
            Malformed: Not valid in this form, or a number or string that no type can represent.
            InvalidInput: Well-formed, but not what the model accepts; names the place.
        """
        try:
            instances = self._takes.decode(raw, form)
        except msgspec.ValidationError as error:
            raise refuse(error, raw, form, side=self._takes) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Malformed(f"input_data: {error}", where="$.input_data") from None
        except (OverflowError, ValueError) as error:  # for example 2**64 for an array of uint64
            raise InvalidInput(str(error), where="$.input_data") from None
        except InvalidInput as error:
            raise InvalidInput(error.detail, where=error.where or "$.input_data") from None
        except Exception as error:  # from the __post_init__ of the model's own struct
            problem = f"the model's own check raised {type(error).__name__}"
            raise InvalidInput(problem, where="$.input_data") from error
        if not len(instances):
            raise InvalidInput("there are no instances", where="$.input_data")
        return instances

    def join(self, parts: Sequence[Instances]) -> Instances:
        """Concatenate the instances of one or more requests into a batch."""
        return self._takes.join(parts)

    def join_predictions(self, parts: Sequence[Any]) -> Any:
        """Concatenate the predictions of several calls."""
        return parts[0] if len(parts) == 1 else self._gives.join(parts)

    def check_predictions(self, predictions: Any, *, count: int) -> str | None:
        """Return what is wrong with the result of ``predict`` for ``count`` instances, or None.

        For lists only the length is checked here; ``encode`` checks the elements.

        Raises:
            UnfitPredictions: Those of an array are of another dtype than is declared, or a number
                is out of its range.
        """
        return self._gives.check(predictions, count=count)

    def encode_instances(self, instances: Any) -> bytes:
        """Return instances as JSON; numpy arrays become lists."""
        if isinstance(instances, Columns) and isinstance(self._takes, ColumnArrays):
            instances = self._takes.rows(instances)
        return to_json(instances)

    def encode(self, predictions: Any, form: Form = "json", *, is_checked: bool = True) -> bytes:
        """Encode predictions. Numpy scalars and arrays become numbers and lists, except that in
        MessagePack a declared array keeps its dtype and shape (``core/packed.py``). The answer to a
        raw body is JSON.

        Raises:
            UnfitPredictions: They do not match the annotation (checked only if ``is_checked``), or
                hold a NaN or an infinity, which JSON cannot represent.
        """
        return self._gives.encode(predictions, form, is_checked=is_checked)


def contract_of(model_class: type) -> Contract:
    """Read the contract from the annotations of ``model_class.predict``, and of its stream. A model
    that has only a stream is predicted by gathering the pieces of each instance.

    Raises:
        ContractError: The annotations are missing or unsupported.
    """
    streamed = stream_types_of(model_class)
    if has_predict(model_class):
        contract = _contract_of_predict(model_class)
    elif streamed is not None:
        gathered = list[list[streamed.gives]]  # type: ignore[name-defined]
        contract = contract_between(_batch_of(streamed), gathered, name=streamed.name)
    else:
        raise ContractError(f"{model_class.__name__} has no predict; write `{_EXAMPLE}`")
    if streamed is not None:
        _check_same_instance(model_class, streamed, contract)
        gives, _ = _side(list[streamed.gives], f"{streamed.name}: a piece", tensor_name="piece")  # type: ignore[name-defined]
        schema = json.dumps(msgspec.json.schema(streamed.gives)).encode()
        contract.pieces = PieceContract(gives, schema=schema)
    return contract


def has_predict(model_class: type) -> bool:
    """Return whether a model class has a ``predict`` of its own."""
    return not getattr(model_class.predict, "is_missing", False)  # type: ignore[attr-defined]


def _contract_of_predict(model_class: type) -> Contract:
    name = f"{model_class.__name__}.predict"
    predict = model_class.predict  # type: ignore[attr-defined]
    if is_generator(predict):
        raise ContractError(
            f"{name} is a generator; write a function that returns the predictions: {_EXAMPLE} "
            "Or, to answer one instance in pieces, def stream(self, instance: str) -> Iterator[str]"
        )
    parameters = list(inspect.signature(predict).parameters)[1:]
    if len(parameters) != 1:
        raise ContractError(f"{name} takes {len(parameters)} arguments; write {_EXAMPLE}")
    try:
        hints = typing.get_type_hints(predict, include_extras=True)
    except (NameError, AttributeError, SyntaxError, TypeError) as error:
        raise ContractError(f"{name}: {error}; import it where the class is defined") from error
    for what, key in (("its argument", parameters[0]), ("what it returns", "return")):
        if key not in hints:
            raise ContractError(f"{name}: {what} has no annotation; write {_EXAMPLE}")
    return contract_between(hints[parameters[0]], hints["return"], name=name)


def _check_same_instance(model_class: type, streamed: StreamTypes, contract: Contract) -> None:
    """See that ``predict`` and the stream take the same instances: a request says only whether its
    answer is wanted in pieces.
    """
    side, _ = _side(_batch_of(streamed), streamed.name, tensor_name="input")
    if _schema(side.annotation, min_items=1) != contract.input_schema:
        raise ContractError(
            f"{model_class.__name__}.predict and {streamed.name} take different instances; "
            "annotate them alike: list[T] for predict, T for the stream"
        )


def _batch_of(streamed: StreamTypes) -> Any:
    """Return the annotation of a batch of what a stream takes; an array has its batch axis."""
    is_array = any(map(_is_tensor, getattr(streamed.takes, "__metadata__", ())))
    return streamed.takes if is_array else list[streamed.takes]  # type: ignore[name-defined]


def contract_between(takes: Any, gives: Any, *, name: str) -> Contract:
    """Return the contract of a ``predict`` whose argument and result are annotated so.

    Raises:
        ContractError: An annotation is unsupported; the text begins with ``name``.
    """
    taken, taken_tensors = _side(takes, f"{name}: its argument", tensor_name="input")
    given, given_tensors = _side(gives, f"{name}: what it returns", tensor_name="output")
    return Contract(
        takes=taken, gives=given, takes_tensors=taken_tensors, gives_tensors=given_tensors
    )


def _side(annotation: Any, what: str, *, tensor_name: str) -> tuple[Side, Tensors]:
    """Return a side, and its tensors. ``tensor_name``: used if the model's author gave none."""
    tensors = [extra for extra in getattr(annotation, "__metadata__", ()) if _is_tensor(extra)]
    is_columns = isinstance(annotation, type) and issubclass(annotation, Columns)
    if tensors or is_columns:
        try:
            if is_columns:
                columns = ColumnArrays(annotation)
                return columns, ColumnTensors(columns)
            return Arrays(tensors[0]), ArrayTensors(tensors[0], name=tensor_name)
        except (TypeError, ValueError, SyntaxError) as error:
            raise ContractError(f"{what}: {error}; write a numpy dtype, such as float32") from error
    if getattr(annotation, "__name__", "") == "ndarray":
        raise ContractError(
            f"{what} is an array of unknown dtype and shape; "
            'write Annotated[np.ndarray, Tensor("float32", (4,))], the shape of one instance'
        )
    if typing.get_origin(annotation) is not list:
        raise ContractError(
            f"{what} is annotated {annotation!r}; write list[…] of what one instance is, "
            "for example list[list[float]], or Annotated[np.ndarray, Tensor(…)]"
        )
    if advice := advise_on_elements(annotation):
        raise ContractError(f"{what}: {advice}")
    try:
        msgspec.json.Decoder(annotation)
        _schema(annotation, min_items=0)
    except TypeError as error:
        raise ContractError(f"{what}: {error}; write a type that msgspec can decode") from error
    lists = Lists(annotation)
    return lists, ListTensors(lists, name=tensor_name)


def _is_tensor(extra: object) -> bool:
    return isinstance(extra, Tensor)


def _schema(annotation: Any, *, min_items: int) -> bytes:
    schema = msgspec.json.schema(annotation)
    if min_items and "$ref" not in schema:
        schema.setdefault("minItems", min_items)
    return json.dumps(schema).encode()
