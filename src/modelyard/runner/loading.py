"""Imports the model class from its folder, and describes what went wrong in one sentence."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from types import ModuleType

from modelyard.core.artefacts import ArtefactError
from modelyard.core.lists import ContractError
from modelyard.core.manifest import ManifestError
from modelyard.folder import FolderError
from modelyard.model import Model, StreamingModel

LONGEST_REASON = 500  # characters of an error's own text


class LoadError(Exception):
    """The model cannot be served; the text says why and what to do.

    Args:
        text: For the operator.
        told: For callers, if the text quotes an exception, which may hold secrets; else empty.
    """

    def __init__(self, text: str, *, told: str = "") -> None:
        super().__init__(text)
        self.told = told


def as_load_error(error: BaseException, folder: Path) -> LoadError:
    """Return the LoadError for what was raised while the model was loaded."""
    if isinstance(error, LoadError):
        return error
    told = "" if isinstance(error, ManifestError | FolderError) else type(error).__name__
    return LoadError(describe(error, folder), told=told)


def as_artefact_error(error: ArtefactError, folder: Path) -> LoadError:
    """Return the LoadError for an artefact: what its library said is for the operator alone."""
    if error.__cause__ is None:
        return LoadError(str(error))
    return LoadError(f"{error}: {describe(error.__cause__, folder)}", told=str(error))


def foreign_cause(error: LoadError) -> BaseException | None:
    """Return the exception of the model's code or of a library, if that is the cause. Its
    traceback is useful; those of our own errors are not.
    """
    ours = (LoadError, ArtefactError, ContractError, ManifestError, FolderError)
    return None if isinstance(error.__cause__, ours) else error.__cause__


def import_class(folder: Path, spec: str) -> type[Model]:
    """Import ``module:Class`` from the folder's ``src/``.

    Raises:
        LoadError: There is no such class, or it is not a model.
        BaseException: Whatever importing raises.
    """
    module_name, _, class_name = spec.partition(":")
    source = folder / "src"
    loaded = sys.modules.get(module_name)
    if loaded is not None and Path(loaded.__file__ or "").parent != source:
        del sys.modules[module_name]  # another model's: tests load several into one process
    if not (source / f"{module_name}.py").exists() and not (source / module_name).is_dir():
        raise LoadError(f"src/{module_name}.py is missing; model.toml says class = {spec!r}")
    sys.path.insert(0, str(source))
    importlib.invalidate_caches()
    module = importlib.import_module(module_name)
    found = getattr(module, class_name, None)
    others = _models_in(module)
    if found is None:
        problem = f"src/{module_name}.py has no {class_name}; model.toml says class = {spec!r}"
        raise LoadError(problem + _instead(module_name, others))
    if not (isinstance(found, type) and issubclass(found, Model)):
        if others:
            problem = f"src/{module_name}.py: {class_name} is no Model"
            raise LoadError(problem + _instead(module_name, others))
        raise LoadError(f"src/{module_name}.py: write `class {class_name}(Model):`")
    return found


def _models_in(module: ModuleType) -> list[str]:
    """Return the names of the models that a module has."""
    return [
        name
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, Model)
        and value not in (Model, StreamingModel)
    ]


def _instead(module_name: str, models: list[str]) -> str:
    """Return what to write in model.toml for one of the models that there are."""
    if not models:
        return ""
    specs = " or ".join(f'"{module_name}:{name}"' for name in models)
    return f"; its models are {', '.join(models)}: write class = {specs} in model.toml"


def source_of(folder: Path, spec: str) -> str:
    """Return the module of ``module:Class`` as a path in the folder."""
    return (folder / "src" / spec.partition(":")[0]).relative_to(folder).as_posix() + ".py"


def describe(error: BaseException, folder: Path) -> str:
    """Describe an exception and the line of the model's own code that raised it."""
    if isinstance(error, LoadError):
        return str(error)
    try:
        text = f"{type(error).__name__}: {error}"[:LONGEST_REASON]
    except Exception:
        text = type(error).__name__  # its own __str__ raises
    text = text.encode(errors="backslashreplace").decode()
    if isinstance(error, SyntaxError) and error.filename:
        return f"{text} ({error.filename}:{error.lineno})"
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(folder)
    ]
    where = f" ({Path(own[-1].filename).relative_to(folder)}:{own[-1].lineno})" if own else ""
    hint = ""
    if isinstance(error, ModuleNotFoundError):
        hint = "; is it in the model's requirements.txt, and installed?"
    return f"{text}{where}{hint}"
