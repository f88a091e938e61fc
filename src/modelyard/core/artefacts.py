"""Artefacts without code: which runtime serves a file, by its name and its first bytes.

The file itself is opened by a runner alone (``modelyard.runtimes``).
"""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Literal

from modelyard.core.names import is_name

Runtime = Literal["onnx", "sklearn", "xgboost", "lightgbm", "torch", "mlflow"]

HEAD_BYTES = 4096
MLMODEL = "MLmodel"

REFERENCE_FILE = "reference.json"
"""The file beside ``model.toml`` with the profile that a model brings (``docs/drift.md``). It is no
artefact of any runtime."""

SUFFIXES: dict[Runtime, tuple[str, ...]] = {
    "onnx": (".onnx",),
    "sklearn": (".skops",),
    "xgboost": (".ubj", ".json", ".model"),
    "lightgbm": (".txt", ".lgb"),
    "torch": (".pt2",),
    "mlflow": (),
}
"""The suffixes of each runtime's artefacts. That of MLflow is a folder with a file ``MLmodel``."""

LIBRARIES: dict[Runtime, tuple[tuple[str, ...], ...]] = {
    "onnx": (("numpy",), ("onnxruntime", "onnxruntime-gpu")),
    "sklearn": (("numpy",), ("pandas",), ("scikit-learn",), ("skops",)),
    "xgboost": (("numpy",), ("xgboost", "xgboost-cpu")),
    "lightgbm": (("numpy",), ("lightgbm",)),
    "torch": (("numpy",), ("torch",)),
    "mlflow": (("pyyaml",),),
}
"""The packages that each runtime needs; of several names one is enough."""

PICKLES = (".pkl", ".pickle", ".joblib")
"""Suffixes of what scikit-learn's runtime unpickles where ``allow_pickle`` is obeyed."""

_USE_SKOPS = "; save a scikit-learn model with skops: skops.io.dump(model, 'model.skops')"
_WHY_NOT = {
    ".pkl": _USE_SKOPS,
    ".pickle": _USE_SKOPS,
    ".joblib": _USE_SKOPS,
    ".pt": "; export a torch model: torch.export.save(torch.export.export(…), 'model.pt2')",
    ".pth": "; export a torch model: torch.export.save(torch.export.export(…), 'model.pt2')",
}
_EXPECTED = {
    "sklearn": ("a zip archive, as skops.io.dump writes it", b"PK\x03\x04"),
    "torch": ("a zip archive, as torch.export.save writes it", b"PK\x03\x04"),
    "xgboost": ("what XGBoost's save_model writes as .ubj or .json", b"{"),
    "lightgbm": ("what LightGBM's save_model writes: its first line is 'tree'", b"tree\n"),
}


class ArtefactError(Exception):
    """An artefact that cannot be served; the text names it, and says what to do.

    If it is raised from a library's exception, that one says more, for the operator alone.
    """


def runtime_of(name: str) -> Runtime:
    """Return the runtime that serves a file of this name.

    Raises:
        ArtefactError: None does.
    """
    suffix = PurePath(name).suffix.lower()
    for runtime, suffixes in SUFFIXES.items():
        if suffix in suffixes:
            return runtime
    if suffix in _WHY_NOT:
        raise ArtefactError(
            f"{name}: such a file is a pickle, which can run any code when it is loaded"
            f"{_WHY_NOT[suffix]}"
        )
    known = ", ".join(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
    raise ArtefactError(f"{name}: no runtime serves such a file; those that are served: {known}")


def check_head(name: str, runtime: Runtime, head: bytes) -> None:
    """Look at the first bytes of an artefact, before its library does.

    Raises:
        ArtefactError: They are not how such a file begins.
    """
    expected, start = _EXPECTED.get(runtime, ("", b""))
    if not head:
        raise ArtefactError(f"{name} is empty")
    if name.lower().endswith(PICKLES):
        return
    is_other_json = name.lower().endswith(".json") and b'"learner"' not in head
    if not head.startswith(start) or (runtime == "xgboost" and is_other_json):
        raise ArtefactError(f"{name} is not for runtime = {runtime!r}; expected {expected}")


def name_of(file_name: str) -> str:
    """Return the name of the model that is a bare file.

    Raises:
        ArtefactError: There is nothing in it to make a name of.
    """
    stem = PurePath(file_name).stem.lower()
    name = re.sub(r"[^a-z0-9._-]+", "-", stem).strip("._-")[:64]
    if not is_name(name):
        raise ArtefactError(
            f"{file_name}: no name can be made of it: `modelyard new NAME --from FILE` writes a "
            "folder with the name that you choose"
        )
    return name
