"""Models of rows: scikit-learn and boosted trees, which take one number or text for each feature.

Without names of features an instance is a row of numbers; with names it has a field for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelyard.core.artefacts import ArtefactError
from modelyard.core.signature import Signature
from modelyard.runtimes.sides import Port


def row_ports(
    names: Sequence[str] | None,
    count: int | None,
    *,
    dtypes: Sequence[str],
    signature: Signature,
    shown: str,
) -> list[Port]:
    """Return the inputs: one matrix, or one column for each name.

    Args:
        names: Of the features; None if the artefact has none.
        count: Number of features; None if the artefact does not tell.
        dtypes: Of each feature, or the only one of all.
        signature: What ``model.toml`` says goes before what the artefact has.
        shown: The artefact, for messages.

    Raises:
        ArtefactError: They contradict each other, or nothing tells the number of features.
    """
    if given := signature.inputs:
        features = given[0].shape[-1] if len(given) == 1 and given[0].shape else len(given)
        if count is not None and features != count:
            raise ArtefactError(f"[signature] has {features} features, and {shown} takes {count}")
        if names is not None and len(given) > 1 and {f.name for f in given} != set(names):
            raise ArtefactError(
                f"[signature] names the inputs {', '.join(field.name for field in given)}; "
                f"{shown} takes {', '.join(names)}"
            )
        order = {name: number for number, name in enumerate(names or ())}
        fields = sorted(given, key=lambda field: order.get(field.name, 0))
        return [Port(field.name, field.dtype, field.shape) for field in fields]
    if names is not None:
        each = dtypes if len(dtypes) == len(names) else [dtypes[0]] * len(names)
        return [Port(name, dtype) for name, dtype in zip(names, each, strict=True)]
    if count is None:
        raise ArtefactError(
            f"{shown} does not tell what it takes: write inputs = "
            '[{dtype = "float64", shape = [4]}] under [signature], the shape of one instance'
        )
    return [Port("", dtypes[0], (count,))]


def as_matrix(arrays: Sequence[Any], dtype: str) -> Any:
    """Return rows of features, of the matrix or of the columns."""
    import numpy as np

    if len(arrays) == 1 and arrays[0].ndim == 2:
        return arrays[0] if arrays[0].dtype == dtype else arrays[0].astype(dtype)
    matrix = np.empty((len(arrays[0]), len(arrays)), dtype)
    for number, array in enumerate(arrays):
        matrix[:, number] = array
    return matrix


def of_classes(probabilities: Any, gives: str) -> list[Any]:
    """Return the outputs of a classifier of boosted trees: labels, probabilities, or both.

    Args:
        probabilities: Of each class; of two classes maybe only that of the second.
        gives: As in ``[signature]``, but not ``own``.
    """
    import numpy as np

    if probabilities.ndim == 1:
        probabilities = np.column_stack([1 - probabilities, probabilities])
        labels = (probabilities[:, 1] > 0.5).astype(np.int64)
    else:
        labels = probabilities.argmax(axis=1)
    chosen = {"labels": [labels], "probabilities": [probabilities]}
    return chosen.get(gives, [labels, probabilities])


def class_outputs(gives: str) -> list[str]:
    """Return the names of the outputs that ``of_classes`` returns."""
    return {"labels": ["label"], "probabilities": ["probabilities"]}.get(
        gives, ["label", "probabilities"]
    )
