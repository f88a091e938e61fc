"""``runtime = "torch"``: a program that ``torch.export`` has saved. Nothing of it is unpickled, and
it calls torch's operators alone (``torch_archive``).
"""

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
from modelyard.runtimes.torch_archive import read_archive


class TorchModel(RuntimeModel):
    """An exported program."""

    def read(self, artefact: Artefact) -> Found:
        """See ``RuntimeModel``."""
        archive = read_archive(artefact.path, artefact.shown)
        with library("torch"):
            import torch
        can_use_gpu = torch.cuda.is_available()
        why_not = "torch finds none that it can use"
        uses_gpu = choose_device(artefact, can_use_gpu=can_use_gpu, why_not=why_not)
        torch.set_num_threads(artefact.threads)
        self._torch = torch
        self._uses_gpu = uses_gpu
        try:
            program = torch.export.load(archive)
            if uses_gpu:
                from torch.export.passes import move_to_device_pass

                program = move_to_device_pass(program, "cuda")
            module = program.module(check_guards=False)
        except Exception as error:
            raise ArtefactError(
                f"{artefact.shown} is no program that this torch reads, or it is damaged"
            ) from error
        self._call = module.forward  # without hooks, which would check what has been checked
        self._places = _places_of(program, artefact.shown)
        inputs, bounds = _inputs_of(program, artefact.shown)
        most = most_of(inputs, artefact.shown)
        names = _output_names(program)
        return Found(
            complete(inputs, artefact.signature.inputs, artefact.shown),
            [Axes(name, "", None) for name in names],
            most=min([*bounds, *([most] if most else [])], default=None),
        )

    def run(self, arrays: list[Any]) -> list[Any]:
        """See ``RuntimeModel``."""
        torch = self._torch
        tensors = [torch.from_numpy(array) for array in arrays]
        if self._uses_gpu:
            tensors = [tensor.to("cuda") for tensor in tensors]
        args, named = self._places
        with torch.inference_mode():
            made = self._call(
                *[tensors[place] for place in args],
                **{name: tensors[place] for name, place in named.items()},
            )
        if isinstance(made, dict):
            made = list(made.values())
        elif not isinstance(made, list | tuple):
            made = [made]
        return [_to_numpy(one, torch) for one in made]


def _to_numpy(tensor: Any, torch: Any) -> Any:
    if tensor.dtype is torch.bfloat16:  # numpy has none
        tensor = tensor.float()
    return tensor.numpy(force=True)  # from a GPU too


def _places_of(program: Any, shown: str) -> tuple[list[int], dict[str, int]]:
    """Return where each argument of the program is among the inputs: by place, and by name.

    Raises:
        ArtefactError: Arguments are nested.
    """
    from torch.utils import _pytree

    spec = program.call_spec.in_spec
    args, named = _pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
    if not all(isinstance(place, int) for place in (*args, *named.values())):
        raise ArtefactError(f"{shown} takes tensors in lists or dicts: export it with one by one")
    return list(args), dict(named)


def _inputs_of(program: Any, shown: str) -> tuple[list[Axes], list[int]]:
    """Return the inputs, and the most instances that each takes, if that is bounded.

    Raises:
        ArtefactError: One is no tensor.
    """
    import torch

    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    inputs, bounds = [], []
    for name in program.graph_signature.user_inputs:
        value = values.get(name)
        if not isinstance(value, torch.Tensor) or value.dtype is torch.bfloat16:
            raise ArtefactError(f"input {name!r} of {shown} is no tensor that a request can have")
        shape = tuple(length if isinstance(length, int) else None for length in value.shape)
        inputs.append(Axes(name, str(value.dtype).removeprefix("torch."), shape))
        if shape and shape[0] is None:
            symbol = value.shape[0].node.expr
            upper: Any = getattr(program.range_constraints.get(symbol), "upper", None)
            if getattr(upper, "is_Integer", False):
                bounds.append(int(upper))
    return inputs, bounds


def _output_names(program: Any) -> list[str]:
    spec = program.call_spec.out_spec
    count = spec.num_leaves
    if count == 1:
        return [""]
    if spec.type is dict and all(isinstance(key, str) for key in spec.context):
        return list(spec.context)
    return [f"output_{number}" for number in range(count)]
