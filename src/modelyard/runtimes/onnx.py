"""``runtime = "onnx"``: an ONNX file, by onnxruntime. It holds names, types and shapes, no code."""

from __future__ import annotations

from typing import Any

from modelyard.core.artefacts import ArtefactError
from modelyard.runtimes.model import (
    Artefact,
    Axes,
    Found,
    RuntimeModel,
    choose_device,
    complete,
    library,
    most_of,
)
from modelyard.runtimes.sides import TEXT

_DTYPES = {
    "bool": "bool",
    "float": "float32",
    "float16": "float16",
    "double": "float64",
    "string": TEXT,
    **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
_MAPS = "seq(map("  # a sequence of maps from classes to probabilities, as converters write it
_ELSEWHERE = b"\x0a\x08location\x12"  # in the entry of a tensor whose data are in another file


class OnnxModel(RuntimeModel):
    """An ONNX graph."""

    def read(self, artefact: Artefact) -> Found:
        """See ``RuntimeModel``."""
        with library("onnx"):
            import onnxruntime
        _check_data(artefact)
        has_cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
        why_not = "this onnxruntime cannot use one (onnxruntime-gpu can)"
        uses_gpu = choose_device(artefact, can_use_gpu=has_cuda, why_not=why_not)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = artefact.threads
        options.inter_op_num_threads = 1
        providers = [*(["CUDAExecutionProvider"] if uses_gpu else []), "CPUExecutionProvider"]
        try:
            session = onnxruntime.InferenceSession(artefact.path, options, providers=providers)
        except Exception as error:
            raise ArtefactError(
                f"{artefact.shown} is no ONNX file that onnxruntime can run, or it is damaged"
            ) from error
        self._run = session.run
        inputs, outputs = session.get_inputs(), session.get_outputs()
        self._input_names = [one.name for one in inputs]
        outputs = _chosen(outputs, artefact)
        self._output_names = [one.name for one in outputs]
        self._maps = [number for number, one in enumerate(outputs) if one.type.startswith(_MAPS)]
        axes = [_axes_of(one, artefact.shown) for one in inputs]
        return Found(
            complete(axes, artefact.signature.inputs, artefact.shown),
            [
                Axes(one.name, "", None if number in self._maps else _shape_of(one))
                for number, one in enumerate(outputs)
            ],
            most=most_of(axes, artefact.shown),
        )

    def run(self, arrays: list[Any]) -> list[Any]:
        """See ``RuntimeModel``."""
        names = self._input_names
        fed = {names[0]: arrays[0]} if len(names) == 1 else dict(zip(names, arrays, strict=True))
        made: list[Any] = self._run(self._output_names, fed)
        for number in self._maps:
            made[number] = _of_maps(made[number])
        return made


def _check_data(artefact: Artefact) -> None:
    """Refuse a bare file that keeps weights in other files: its digest does not cover them."""
    if artefact.is_bare and _ELSEWHERE in artefact.path.read_bytes():
        raise ArtefactError(
            f"{artefact.shown} keeps weights in other files: put all of them into assets/ of a "
            "model's folder, which `modelyard new NAME --from FILE` writes"
        )


def _axes_of(one: Any, shown: str) -> Axes:
    dtype = _DTYPES.get(one.type.removeprefix("tensor(").removesuffix(")"))
    if dtype is None:
        raise ArtefactError(f"input {one.name!r} of {shown} is a {one.type}, which no request has")
    return Axes(one.name, dtype, _shape_of(one))


def _shape_of(one: Any) -> tuple[int | None, ...]:
    return tuple(length if isinstance(length, int) else None for length in one.shape)


def _chosen(outputs: list[Any], artefact: Artefact) -> list[Any]:
    """Return the outputs that ``gives`` asks for: labels are whole numbers or texts."""
    gives = artefact.signature.gives
    if gives in ("own", "both"):
        return outputs
    is_label = [one.type in ("tensor(int64)", "tensor(string)") for one in outputs]
    wanted = [
        o for o, is_one in zip(outputs, is_label, strict=True) if is_one == (gives == "labels")
    ]
    if len(wanted) != 1:
        names = ", ".join(f"{one.name} ({one.type})" for one in outputs)
        raise ArtefactError(f"gives = {gives!r}: which output of {artefact.shown} is it? {names}")
    return wanted


def _of_maps(maps: list[dict[Any, float]]) -> Any:
    import numpy as np

    return np.array([list(one.values()) for one in maps], dtype=np.float32)
