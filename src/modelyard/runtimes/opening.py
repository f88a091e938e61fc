"""From ``runtime = "…"`` in ``model.toml`` to the model that serves the artefact."""

from __future__ import annotations

import importlib
from pathlib import Path

from modelyard.core.artefacts import ArtefactError, Runtime
from modelyard.core.manifest import Manifest
from modelyard.folder import find_artefact
from modelyard.runtimes.mlflow import unwrap
from modelyard.runtimes.model import Artefact, RuntimeModel

_CLASSES: dict[Runtime, str] = {
    "onnx": "OnnxModel",
    "sklearn": "SklearnModel",
    "xgboost": "XGBoostModel",
    "lightgbm": "LightGBMModel",
    "torch": "TorchModel",
}


def open_runtime(folder: Path, manifest: Manifest, *, is_signed: bool) -> RuntimeModel:
    """Return the model of a folder, or of a bare artefact, that has a runtime; it is loaded.
    ``is_signed``: whether somebody who is trusted has signed it.

    Raises:
        ArtefactError: It cannot be served.
    """
    assert manifest.runtime is not None
    if manifest.allow_pickle and not is_signed:
        raise ArtefactError(
            "allow_pickle = true is refused: a pickle can run any code, so it is loaded only where "
            "the server has trusted_keys and one of them has signed the model; or save it in a "
            "format without code"
        )
    path = find_artefact(folder, manifest)
    is_file = folder.is_file()
    resources = manifest.resources
    artefact = Artefact(
        path=path,
        shown=path.name if is_file else path.relative_to(folder).as_posix(),
        is_bare=is_file,
        signature=manifest.signature,
        threads=resources.threads,
        wants_gpu=resources.gpu > 0,
        may_fall_back=resources.without_gpu == "cpu",
        may_unpickle=manifest.allow_pickle,
    )
    runtime = manifest.runtime
    if runtime == "mlflow":
        runtime, artefact = unwrap(artefact)
    module = importlib.import_module(f"modelyard.runtimes.{runtime}")
    runtime_class: type[RuntimeModel] = getattr(module, _CLASSES[runtime])
    model = runtime_class(artefact)
    model.assets = folder / "assets"
    model.load()
    return model
