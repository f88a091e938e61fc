"""What the models are asked before anything is timed, and what is right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

from bench.peers.subjects import IMAGE_SHAPE, load_subject

SETOSA, VIRGINICA = [5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]


def instance_of(model: str) -> Any:
    """Give the instance that is timed."""
    return _image(0) if model == "image" else SETOSA


def samples(model: str) -> Sequence[tuple[Any, Any]]:
    """Give instances, each with its prediction."""
    if model == "iris":
        return [(SETOSA, 0), (VIRGINICA, 2)]
    if model == "image":
        return [(_image(seed), _scores(seed)) for seed in (0, 1)]
    return [(row, row) for row in (SETOSA, VIRGINICA)]


def is_close(given: Any, wanted: Any) -> bool:
    """Tell whether a prediction is right, to the precision of float32."""
    if isinstance(wanted, list):
        return (
            isinstance(given, list)
            and len(given) == len(wanted)
            and all(map(is_close, given, wanted))
        )
    return isinstance(given, int | float) and math.isclose(given, wanted, rel_tol=1e-5)


@cache
def _image(seed: int) -> list[Any]:
    """Give a tensor as a client would write it: numbers with four decimals."""
    import numpy as np

    pixels: list[Any] = np.random.default_rng(seed).random(IMAGE_SHAPE).round(4).tolist()
    return pixels


@cache
def _scores(seed: int) -> list[Any]:
    (scores,) = load_subject("image")([_image(seed)])
    answer: list[Any] = scores.tolist()
    return answer
