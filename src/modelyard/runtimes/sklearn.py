"""``runtime = "sklearn"``: a scikit-learn estimator or pipeline in skops' format, which is read
without unpickling: a file that holds other types than scikit-learn's and numpy's is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from modelyard.core.artefacts import PICKLES, ArtefactError
from modelyard.runtimes.model import (
    Artefact,
    Axes,
    Found,
    RuntimeModel,
    choose_device,
    library,
)
from modelyard.runtimes.sides import TEXT, Port
from modelyard.runtimes.tables import as_matrix, row_ports
from modelyard.runtimes.trees import TRUSTED, check_trees


class SklearnModel(RuntimeModel):
    """An estimator."""

    def read(self, artefact: Artefact) -> Found:
        """See ``RuntimeModel``."""
        choose_device(artefact, can_use_gpu=False, why_not="scikit-learn predicts on the CPU")
        is_pickle = artefact.path.suffix.lower() in PICKLES
        estimator = _unpickle(artefact) if is_pickle else _load(artefact)
        _limit_threads(estimator, artefact.threads)
        self._calls, outputs = _calls_of(estimator, artefact)
        names = getattr(estimator, "feature_names_in_", None)
        self._names = None if names is None else [str(name) for name in names]
        if self._names is not None:
            with library("sklearn"):
                import pandas
            self._frame = pandas.DataFrame
        return Found(_inputs_of(estimator, self._names, artefact), outputs)

    def run(self, arrays: list[Any]) -> list[Any]:
        """See ``RuntimeModel``."""
        rows: Any
        if self._names is not None:
            columns = arrays[0].T if len(arrays) == 1 and arrays[0].ndim == 2 else arrays
            rows = self._frame(dict(zip(self._names, columns, strict=True)))
        elif len(arrays) == 1:
            rows = arrays[0]
        else:
            rows = as_matrix(arrays, "float64")
        made = [call(rows) for call in self._calls]
        return [one.toarray() if hasattr(one, "toarray") else one for one in made]


def _load(artefact: Artefact) -> Any:
    """Return what skops has saved, of types that do no harm.

    Raises:
        ArtefactError: It is damaged, or has other types.
    """
    with library("sklearn"):
        import sklearn  # noqa: F401
        import skops.io
    try:
        strangers = set(skops.io.get_untrusted_types(file=artefact.path)) - set(TRUSTED)
        estimator = None if strangers else skops.io.load(artefact.path, trusted=list(TRUSTED))
    except Exception as error:
        raise ArtefactError(
            f"{artefact.shown} is no file of skops that this scikit-learn reads, or it is damaged"
        ) from error
    if strangers:
        raise ArtefactError(
            f"{artefact.shown} holds types that are not known to be harmless: "
            f"{', '.join(sorted(strangers))}; nothing of it was loaded"
        )
    check_trees(estimator, artefact.shown)
    return estimator


def _unpickle(artefact: Artefact) -> Any:
    """Return what a pickle holds, of pickle, joblib or cloudpickle; whoever wrote it is trusted.

    Raises:
        ArtefactError: It may not be loaded, or cannot be.
    """
    if not artefact.may_unpickle:
        raise ArtefactError(f"{artefact.shown} is a pickle, which needs allow_pickle = true")
    with library("sklearn"):
        import joblib
    try:
        return joblib.load(artefact.path)
    except Exception as error:
        raise ArtefactError(f"{artefact.shown} cannot be unpickled, or is damaged") from error


def _calls_of(estimator: Any, artefact: Artefact) -> tuple[list[Any], list[Axes]]:
    """Return the methods whose results are the outputs, and these."""
    gives = artefact.signature.gives
    wanted = {
        "own": ["predict" if hasattr(estimator, "predict") else "transform"],
        "labels": ["predict"],
        "probabilities": ["predict_proba"],
        "both": ["predict", "predict_proba"],
    }[gives]
    for name in wanted:
        if not hasattr(estimator, name):
            kind = type(estimator).__name__
            raise ArtefactError(f"gives = {gives!r}: {artefact.shown} is a {kind} without {name}")
    names = ["label", "probabilities"] if len(wanted) == 2 else [""]
    classes = list(getattr(estimator, "classes_", ()))
    is_text = all(isinstance(one, str) for one in classes)
    choices = tuple(map(str, classes)) if is_text else ()
    return [getattr(estimator, name) for name in wanted], [
        Axes(name, "", None, choices if method == "predict" else ())
        for name, method in zip(names, wanted, strict=True)
    ]


def _limit_threads(estimator: Any, threads: int) -> None:
    """Let it use the runner's threads, where it was trained with those of another machine."""
    found = estimator.get_params(deep=True)
    jobs = {
        name: threads
        for name, value in found.items()
        if name.rpartition("__")[2] == "n_jobs" and value is not None
    }
    if jobs:
        estimator.set_params(**jobs)


def _inputs_of(estimator: Any, names: list[str] | None, artefact: Artefact) -> list[Port]:
    """Return the inputs: what ``[signature]`` says, what the features are, or texts."""
    reader = _first_step(estimator)
    if names is None and hasattr(reader, "vocabulary_") and not artefact.signature.inputs:
        return [Port("", TEXT)]
    categories = dict(_categories_of(estimator))
    ports = row_ports(
        names,
        getattr(estimator, "n_features_in_", None),
        dtypes=["float64"],
        signature=artefact.signature,
        shown=artefact.shown,
    )
    if artefact.signature.inputs or names is None:
        return ports
    return [categories.get(port.name, port) for port in ports]


def _first_step(estimator: Any) -> Any:
    """Return what gets the instances."""
    while steps := getattr(estimator, "steps", None):
        estimator = steps[0][1]
    return estimator


def _categories_of(estimator: Any) -> Iterator[tuple[str, Port]]:
    """Give the columns whose encoder has seen all their values, or that are read as text."""
    for _, transformer, columns in getattr(_first_step(estimator), "transformers_", ()):
        step = transformer if isinstance(transformer, str) else _encoder_in(transformer)
        if hasattr(step, "vocabulary_") and isinstance(columns, str):
            yield columns, Port(columns, TEXT)
        for name, values in zip(columns, getattr(step, "categories_", ()), strict=False):
            if values.dtype.kind in "OU":
                texts = tuple(str(value) for value in values if isinstance(value, str))
                is_closed = getattr(step, "handle_unknown", "error") == "error"
                yield str(name), Port(str(name), TEXT, (), texts if is_closed else ())
            else:
                yield str(name), Port(str(name), values.dtype.name)


def _encoder_in(transformer: Any) -> Any:
    """Return the step of a transformer that knows categories, else its first."""
    steps = [step for _, step in getattr(transformer, "steps", ())] or [transformer]
    return next((step for step in steps if hasattr(step, "categories_")), steps[0])
