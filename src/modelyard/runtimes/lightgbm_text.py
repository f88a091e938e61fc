"""Checks LightGBM's text before the library reads it: what is cut off or leads out of a tree would
end the process, and so without a word of what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_END = "end of trees"
_IS_CATEGORICAL = 1  # in decision_type
_OF_LEAVES = ("leaf_value", "leaf_weight", "leaf_count", "leaf_const", "num_features")
_OF_NODES = (
    *("split_feature", "split_gain", "threshold", "decision_type", "left_child", "right_child"),
    *("internal_value", "internal_weight", "internal_count"),
)


def problem_of(text: str) -> str | None:
    """Return what is wrong with a model's text, or None."""
    start = text.find("\nTree=0\n") + 1
    header = _pairs(text[: start or len(text)])
    try:
        sizes = [int(size) for size in header["tree_sizes"].split()]
        features = int(header["max_feature_idx"]) + 1
    except (KeyError, ValueError):
        return "it has no head"
    end = start + sum(sizes)
    if not start or not text.startswith(_END, end):
        return f"its trees do not end at {_END!r}, where they should"
    if "\nend of parameters" not in text[end:] and not _is_without_parameters(text[end:]):
        return "its parameters have no end"
    for number, size in enumerate(sizes):
        try:
            is_sound = _is_sound(_pairs(text[start : start + size]), number, features)
        except (KeyError, ValueError, OverflowError):
            is_sound = False
        if not is_sound:
            return f"tree {number} leads out of itself, or a part of it is missing"
        start += size
    return None


def _is_without_parameters(tail: str) -> bool:
    return "\nparameters:" not in tail and "\npandas_categorical:" in tail


def _pairs(block: str) -> dict[str, str]:
    """Return the values by their keys; a line is ``key=value``."""
    return dict(re.findall(r"^(\w+)=(.*)$", block, re.MULTILINE))


def _is_sound(tree: Mapping[str, str], number: int, features: int) -> bool:
    """Return whether a tree is whole.

    Raises:
        KeyError, ValueError: Something is missing, or is no number.
    """
    found = {key: _reals(text) for key, text in tree.items()}
    leaves = int(tree["num_leaves"])
    nodes = leaves - 1
    if found["Tree"] != number or leaves < 1 or len(found["leaf_value"]) != leaves:
        return False
    lengths = dict.fromkeys(_OF_LEAVES, leaves) | dict.fromkeys(_OF_NODES, nodes)
    if any(len(found[key]) not in (length, 0) for key, length in lengths.items() if key in found):
        return False
    if leaves == 1:
        return True
    split = _numbers(tree["split_feature"], nodes)
    used = _numbers(tree.get("leaf_features", ""))
    return (
        all(
            _is_forward(_numbers(tree[key], nodes), leaves) for key in ("left_child", "right_child")
        )
        and _is_within(split, features)
        and _is_within(used, features)
        and len(found["threshold"]) == nodes
        and _is_sound_in_categories(tree, nodes)
    )


def _is_forward(children: Any, leaves: int) -> bool:
    """Return whether each child is a leaf that there is, or a node behind its parent."""
    import numpy as np

    nodes = leaves - 1
    is_leaf = (children < 0) & (~children < leaves)
    return bool((is_leaf | ((children > np.arange(nodes)) & (children < nodes))).all())


def _is_within(indices: Any, length: int) -> bool:
    return bool((indices >= 0).all() and (indices < length).all())


def _is_sound_in_categories(tree: Mapping[str, str], nodes: int) -> bool:
    is_categorical = (_numbers(tree["decision_type"], nodes) & _IS_CATEGORICAL) != 0
    count = int(tree["num_cat"])
    if not is_categorical.any():
        return True
    bounds = _numbers(tree["cat_boundaries"], count + 1)
    words = len(_numbers(tree["cat_threshold"]))
    is_ascending = bounds[0] == 0 and (bounds[1:] >= bounds[:-1]).all() and bounds[-1] == words
    return bool(is_ascending) and _is_within(_reals(tree["threshold"])[is_categorical], count)


def _numbers(text: str, count: int | None = None) -> Any:
    """Return whole numbers.

    Raises:
        ValueError: They are none, or not so many.
    """
    import numpy as np

    found = np.array(text.split(), np.int64)
    if count is not None and len(found) != count:
        raise ValueError(text)
    return found


def _reals(text: str) -> Any:
    import numpy as np

    return np.array(text.split(), np.float64)
