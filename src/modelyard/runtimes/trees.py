"""Looks through what skops has read of scikit-learn for trees, and checks that they are sound.

skops trusts every type of scikit-learn that does no harm by being made. Trees are not among them:
scikit-learn follows the indices in their nodes without a look at the bounds, so that a made-up file
could have it read any memory. What is checked here is that no index leads out of its tree, nor back
in it. The few other types below are plain data in Python.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from modelyard.core.artefacts import ArtefactError

_TREE = "sklearn.tree._tree.Tree"
_PREDICTOR = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"

TRUSTED = (
    _TREE,
    _PREDICTOR,
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.utils._bunch.Bunch",
)
"""Types that are loaded though skops does not trust them."""


def check_trees(estimator: Any, shown: str) -> None:
    """Check all trees in an estimator.

    Raises:
        ArtefactError: One of them leads out of its nodes, or has no end.
    """
    for name, tree in _trees_in(estimator):
        try:
            is_sound = _is_sound_tree(tree) if name == _TREE else _is_sound_predictor(tree)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ArtefactError(f"{shown} is damaged: a tree in it has no nodes") from error
        if not is_sound:
            raise ArtefactError(f"{shown} is damaged: a tree in it leads out of its nodes")


def _is_sound_tree(tree: Any) -> bool:
    state = tree.__getstate__()
    nodes, values = state["nodes"], state["values"]
    is_split = nodes["left_child"] != -1
    return (
        len(values) == len(nodes) > 0
        and _is_forward(nodes["left_child"], is_split)
        and _is_forward(nodes["right_child"], is_split)
        and _is_within(nodes["feature"][is_split], tree.n_features)
    )


def _is_sound_predictor(tree: Any) -> bool:
    nodes = tree.nodes
    is_split = nodes["is_leaf"] == 0
    is_categorical = is_split & (nodes["is_categorical"] != 0)
    return (
        len(nodes) > 0
        and _is_forward(nodes["left"], is_split)
        and _is_forward(nodes["right"], is_split)
        and _is_within(nodes["bitset_idx"][is_categorical], len(tree.raw_left_cat_bitsets))
    )


def _is_forward(children: Any, is_split: Any) -> bool:
    """Return whether each child comes behind its parent: then every way down has an end."""
    parents = is_split.nonzero()[0]
    found = children[is_split].astype("int64")
    return bool((found > parents).all() and (found < len(children)).all())


def _is_within(indices: Any, length: int) -> bool:
    found = indices.astype("int64")
    return bool((found >= 0).all() and (found < length).all())


def _trees_in(estimator: Any) -> Iterator[tuple[str, Any]]:
    waiting, seen = [estimator], set()
    while waiting:
        found = waiting.pop()
        if id(found) in seen or isinstance(found, type | str | bytes | int | float):
            continue
        seen.add(id(found))
        name = f"{type(found).__module__}.{type(found).__qualname__}"
        if name in (_TREE, _PREDICTOR):
            yield name, found
        if isinstance(found, dict):
            waiting += found.values()
        elif isinstance(found, list | tuple | set):
            waiting += found
        elif getattr(getattr(found, "dtype", None), "kind", "") == "O":
            waiting += found.ravel().tolist()
        waiting += getattr(found, "__dict__", {}).values()
