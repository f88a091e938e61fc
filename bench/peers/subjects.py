"""The models of the comparison: the same code and the same artefact in every system.

Runs in each system's own environment, so it needs nothing but numpy and scikit-learn, and those
only for the subjects that use them. A subject answers a list of instances with as many predictions.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Subject = Callable[[Any], list[Any]]

ARTEFACT = Path(__file__).parent / "models" / "iris" / "assets" / "iris.json"
IMAGE_SHAPE, SCORES = (3, 224, 224), 1000
PAUSE_S = {"slow_batch": 0.020, "slow_each": 0.020, "brief_each": 0.002}


def load_subject(name: str) -> Subject:
    """Give the model called ``name``, loaded."""
    loaders: dict[str, Callable[[], Subject]] = {
        "iris": _load_iris,
        "image": _load_image,
        "slow_batch": _load_slow_batch,
        "slow_each": lambda: _load_each("slow_each"),
        "brief_each": lambda: _load_each("brief_each"),
    }
    return loaders[name]()


def _load_iris() -> Subject:
    """Give a logistic regression for rows of four numbers; ``train.py`` wrote its artefact."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    learned = json.loads(ARTEFACT.read_text(encoding="utf-8"))
    classifier = LogisticRegression()
    for attribute, value in learned.items():
        setattr(classifier, attribute, np.array(value))

    def predict(rows: Any) -> list[Any]:
        species: list[Any] = classifier.predict(np.asarray(rows, dtype=np.float64)).tolist()
        return species

    return predict


def _load_image() -> Subject:
    """Give 1,000 scores for each image: cheap means, so that the transport is what counts."""
    import numpy as np

    def predict(images: Any) -> list[Any]:
        batch = np.asarray(images, dtype=np.float32).reshape(len(images), -1)
        scores = batch[:, : SCORES * 150].reshape(len(images), SCORES, 150).mean(axis=2)
        return list(scores)

    return predict


def _load_slow_batch() -> Subject:
    """Wait for the same time whatever the batch holds, as a model on an accelerator does."""

    def predict(instances: Any) -> list[Any]:
        time.sleep(PAUSE_S["slow_batch"])
        return list(instances)

    return predict


def _load_each(name: str) -> Subject:
    """Wait for each instance."""

    def predict(instances: Any) -> list[Any]:
        for _ in instances:
            time.sleep(PAUSE_S[name])
        return list(instances)

    return predict
