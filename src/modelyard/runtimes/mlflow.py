"""``runtime = "mlflow"``: a folder that MLflow has saved. What it wraps is served by the runtime of
its own format, with the signature and the example that MLflow keeps beside it.

MLflow itself is not needed, and none of its Python functions is run: most of them are pickles.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from modelyard.core.artefacts import MLMODEL, PICKLES, SUFFIXES, ArtefactError, Runtime
from modelyard.core.signature import Dtype, Field, Signature
from modelyard.folder import content_of
from modelyard.runtimes.model import Artefact, library

_FILES: dict[Runtime, str] = {  # by flavour, the key that names its file
    "onnx": "data",
    "xgboost": "data",
    "lightgbm": "data",
    "sklearn": "pickled_model",
}
_TYPES: dict[str, Dtype] = {
    "boolean": "bool",
    "integer": "int32",
    "long": "int64",
    "float": "float32",
    "double": "float64",
    "string": "str",
}


def unwrap(artefact: Artefact) -> tuple[Runtime, Artefact]:
    """Return what is in MLflow's folder: its runtime, and the artefact for it.

    Raises:
        ArtefactError: None of what is in it can be served.
    """
    with library("mlflow"):
        import yaml
    shown = f"{artefact.shown}/{MLMODEL}".removeprefix("./")
    try:
        described = yaml.safe_load((artefact.path / MLMODEL).read_text(encoding="utf-8"))
        flavours = {name: dict(one) for name, one in dict(described["flavors"]).items()}
    except (yaml.YAMLError, OSError, ValueError, TypeError, KeyError) as error:
        raise ArtefactError(f"{shown} is no description of a model, or is damaged") from error
    for runtime, file in _files_in(flavours):
        may_unpickle = artefact.may_unpickle and runtime == "sklearn"
        suffixes = SUFFIXES[runtime] + (PICKLES if may_unpickle else ())
        if Path(file).suffix.lower() not in suffixes:
            continue  # a pickle
        path = _find(artefact.path, file)
        if path is None and runtime == "torch":
            continue  # it has a pickle in its place
        if path is None:
            raise ArtefactError(f"{shown} names {file!r} for {runtime}, and it is not there")
        signature = _signature_of(described, runtime, artefact, example_in=artefact.path)
        if runtime == "xgboost" and signature.gives == "own" and _is_classifier(flavours[runtime]):
            signature = msgspec.structs.replace(signature, gives="labels")
        inside = path.relative_to(artefact.path).as_posix()
        return runtime, artefact._replace(
            path=path, shown=f"{artefact.shown}/{inside}".removeprefix("./"), signature=signature
        )
    raise ArtefactError(
        f"{shown} has the flavours {', '.join(flavours)}, and none of them can be loaded without a "
        "pickle, which can run any code; save the model as ONNX, in the trees' own format, with "
        "skops or, of torch, as pt2"
    )


def _files_in(flavours: Mapping[str, dict[str, Any]]) -> Iterator[tuple[Runtime, str]]:
    for runtime, key in _FILES.items():
        if isinstance(file := flavours.get(runtime, {}).get(key), str):
            yield runtime, file
    if isinstance(folder := flavours.get("pytorch", {}).get("model_data"), str):
        yield "torch", f"{folder}/model.pt2"


def _find(folder: Path, name: str) -> Path | None:
    """Return the file of this name in a folder: it is looked up, not joined into a path."""
    found = (path for path in content_of(folder) if path.relative_to(folder).as_posix() == name)
    return next(found, None)


def _is_classifier(flavour: Mapping[str, Any]) -> bool:
    """Return whether MLflow answers with labels, as the classifier that was saved does."""
    return str(flavour.get("model_class", "")).endswith("Classifier")


def _signature_of(
    described: Mapping[str, Any], runtime: Runtime, artefact: Artefact, *, example_in: Path
) -> Signature:
    """Return ``[signature]``, completed with what MLflow knows and its artefact does not."""
    given = artefact.signature
    if given.inputs:
        return given
    try:
        inputs = msgspec.json.decode(dict(described.get("signature") or {}).get("inputs") or "[]")
        fields = _fields(inputs, is_table=runtime not in ("onnx", "torch"))
    except (msgspec.DecodeError, TypeError, KeyError, ValueError, AttributeError) as error:
        raise ArtefactError(f"the signature in {MLMODEL} cannot be used: write [signature]") from (
            error
        )
    example = given.example or _example_of(described, fields, example_in)
    return msgspec.structs.replace(given, inputs=fields, example=example)


def _fields(inputs: Sequence[Mapping[str, Any]], *, is_table: bool) -> list[Field]:
    """Return the inputs of a signature of MLflow.

    Raises:
        KeyError: One has a type that is none of ours.
    """
    fields = []
    for one in inputs:
        name = (one.get("name") or "") if len(inputs) > 1 or one["type"] != "tensor" else ""
        if one["type"] != "tensor":
            fields.append(Field(_TYPES[one["type"]], name))
            continue
        tensor = one["tensor-spec"]
        shape = tuple(tensor["shape"][1:])
        if all(length > 0 for length in shape):
            dtype = "str" if tensor["dtype"] in ("object", "str") else tensor["dtype"]
            fields.append(msgspec.convert({"dtype": dtype, "name": name, "shape": shape}, Field))
    is_columns = all(one["type"] != "tensor" for one in inputs)
    if is_table and is_columns and fields and not any(field.name for field in fields):
        return [Field(fields[0].dtype, "", (len(fields),))]
    if is_columns and not is_table:
        return []  # the columns of a frame, which the graph takes as a whole
    return fields if len(fields) == len(inputs) else []


def _example_of(described: Mapping[str, Any], fields: list[Field], folder: Path) -> list[Any]:
    """Return the first instance of the example that was saved, if it can be read."""
    about = described.get("saved_input_example_info")
    path = _find(folder, str(about.get("artifact_path"))) if isinstance(about, dict) else None
    if path is None:
        return []
    try:
        saved = msgspec.json.decode(path.read_bytes())
    except msgspec.DecodeError:
        return []
    rows = saved.get("data", saved.get("inputs")) if isinstance(saved, dict) else saved
    if not isinstance(rows, list) or not rows:
        return []
    columns = saved.get("columns") if isinstance(saved, dict) else None
    if len(fields) > 1 and isinstance(columns, list) and isinstance(rows[0], list):
        return [dict(zip(columns, rows[0], strict=False))]
    return rows[:1]
