"""Checks XGBoost's formats, JSON and UBJSON, before the library reads them: it follows lengths and
indices in them without a look at their bounds, and what is damaged may end the process.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

_NUMBERS = {b"i": ">b", b"U": ">B", b"I": ">h", b"l": ">i", b"L": ">q", b"d": ">f", b"D": ">d"}
_ARRAYS = {
    b"i": ">i1",
    b"U": ">u1",
    b"I": ">i2",
    b"l": ">i4",
    b"L": ">i8",
    b"d": ">f4",
    b"D": ">f8",
}
_CONSTANTS = {b"T": True, b"F": False, b"Z": None}
_OF_NODES = (
    *("left_children", "right_children", "parents", "split_indices", "split_conditions"),
    *("default_left", "split_type", "loss_changes", "sum_hessian"),
)
_NO_CHILD = -1


def problem_of(content: bytes) -> str | None:
    """Return what is wrong with a model's file, or None."""
    try:
        is_json = content[1:].lstrip()[:1] in (b'"', b"")
        learner = (json.loads(content) if is_json else _Reader(content).value())["learner"]
        features = int(learner["learner_model_param"]["num_feature"])
        for number, tree in enumerate(_trees_in(learner["gradient_booster"])):
            if not _is_sound(tree, features):
                return f"tree {number} leads out of itself, or a part of it is missing"
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return "it is cut off, or no model"
    except (struct.error, MemoryError):
        return "it is cut off"
    return None


class _Reader:
    """Reads UBJSON, as far as XGBoost writes it; arrays of one type become numpy's.

    Raises:
        ValueError, struct.error: It is cut off, or something else.
    """

    def __init__(self, content: bytes) -> None:
        import numpy as np

        self._np = np
        self._content = content
        self._at = 0

    def value(self, marker: bytes = b"") -> Any:
        """Return the next value."""
        marker = marker or self._take(1)
        if marker in _NUMBERS:
            (number,) = struct.unpack(
                _NUMBERS[marker], self._take(struct.calcsize(_NUMBERS[marker]))
            )
            return number
        if marker == b"{":
            return self._object()
        if marker == b"[":
            return self._array()
        if marker == b"S":
            return self._text()
        if marker in _CONSTANTS:
            return _CONSTANTS[marker]
        raise ValueError(f"unknown marker {marker!r}")

    def _take(self, size: int) -> bytes:
        found = self._content[self._at : self._at + size]
        if size < 0 or len(found) < size:
            raise ValueError("it is cut off")
        self._at += size
        return found

    def _length(self) -> int:
        length = self.value()
        if not isinstance(length, int) or length < 0:
            raise ValueError("a length is none")
        return length

    def _text(self) -> str:
        return self._take(self._length()).decode()

    def _object(self) -> dict[str, Any]:
        found = {}
        while (marker := self._take(1)) != b"}":
            self._at -= len(marker)
            key = self._text()
            found[key] = self.value()
        return found

    def _array(self) -> Any:
        marker = self._take(1)
        kind = b""
        if marker == b"$":
            kind, marker = self._take(1), self._take(1)
        if marker != b"#":
            found = []
            while marker != b"]":
                found.append(self.value(marker))
                marker = self._take(1)
            return found
        count = self._length()
        if kind:
            dtype = self._np.dtype(_ARRAYS[kind])
            return self._np.frombuffer(self._take(count * dtype.itemsize), dtype)
        return [self.value() for _ in range(count)]


def _trees_in(booster: Any) -> Iterator[Any]:
    """Give the trees; ``dart`` has them one level below."""
    if isinstance(booster, dict):
        for name, inner in booster.items():
            if name == "trees":
                yield from inner
            else:
                yield from _trees_in(inner)


def _is_sound(tree: dict[str, Any], features: int) -> bool:
    import numpy as np

    arrays = {name: np.asarray(tree[name]) for name in _OF_NODES}
    left, right = (arrays[name].astype("int64") for name in ("left_children", "right_children"))
    count = len(left)
    if not count or any(len(array) != count for array in arrays.values()):
        return False
    if int(tree["tree_param"]["num_nodes"]) != count or len(tree["base_weights"]) < count:
        return False
    is_split = left != _NO_CHILD
    children = np.concatenate([left[is_split], right[is_split]])
    split = arrays["split_indices"].astype("int64")[is_split]
    return bool(
        # Each but the root has one parent at most: then every way down has an end.
        (children > 0).all()
        and (children < count).all()
        and len(np.unique(children)) == len(children)
        and (split >= 0).all()
        and (split < features).all()
        and _are_sound_leaves(tree, right[~is_split])
        and _is_sound_in_categories(tree, count)
    )


def _are_sound_leaves(tree: dict[str, Any], places: Any) -> bool:
    """Return whether the leaves of a tree for several outputs have weights; others have theirs
    beside them.
    """
    if "leaf_weights" not in tree:
        return True
    count = len(tree["leaf_weights"]) // int(tree["tree_param"]["size_leaf_vector"])
    return bool((places >= 0).all() and (places < count).all())


def _is_sound_in_categories(tree: dict[str, Any], count: int) -> bool:
    import numpy as np

    names = ("categories_nodes", "categories_segments", "categories_sizes")
    nodes, starts, sizes = (np.asarray(tree[name]).astype("int64") for name in names)
    all_of_them = len(tree["categories"])
    return bool(
        len(nodes) == len(starts) == len(sizes)
        and (nodes >= 0).all()
        and (nodes < count).all()
        and (starts >= 0).all()
        and (sizes >= 0).all()
        and (starts + sizes <= all_of_them).all()
    )
