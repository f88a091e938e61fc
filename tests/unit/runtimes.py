"""Folders with a runtime, and graphs for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper

from modelyard.testing import LoadError, ServedModel


def write(folder: Path, runtime: str, more: str = "") -> Path:
    """Write a manifest beside the artefacts in ``assets/``."""
    (folder / "assets").mkdir(parents=True, exist_ok=True)
    text = f'name = "m"\nversion = "1"\nruntime = "{runtime}"\n{more}'
    (folder / "model.toml").write_text(text)
    return folder


def graph(
    path: Path,
    nodes: list[Any],
    inputs: dict[str, tuple[int, list[Any]]],
    outputs: dict[str, tuple[int, list[Any] | None]],
) -> Path:
    """Save an ONNX graph."""
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()],
        [helper.make_tensor_value_info(name, *kind) for name, kind in outputs.items()],
    )
    opset = [helper.make_opsetid("", 21)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        helper.make_model(made, opset_imports=opset, ir_version=10).SerializeToString()
    )
    return path


def doubling(path: Path, shape: list[Any]) -> Path:
    """Save a graph that doubles what it gets."""
    node = helper.make_node("Add", ["x", "x"], ["y"])
    kind = (TensorProto.FLOAT, shape)
    return graph(path, [node], {"x": kind}, {"y": kind})


def refusal(path: Path) -> str:
    with pytest.raises(LoadError) as refused, ServedModel(path):
        pass
    return str(refused.value)
