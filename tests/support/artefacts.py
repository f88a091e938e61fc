"""Small models, trained and saved as their frameworks save them, for tests without a class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

ROWS = 1000


def rows_like_iris(count: int = ROWS, dtype: str = "float32") -> Any:
    """Give flowers that there might be."""
    chance = np.random.default_rng(7)
    return chance.uniform((4, 2, 1, 0.1), (8, 4.5, 7, 2.5), (count, 4)).astype(dtype)


def iris() -> tuple[Any, Any]:
    """Give the flowers, and the number of each one's species."""
    flowers, species = load_iris(return_X_y=True)
    return flowers.astype("float32"), species


def save_onnx(path: Path, *, zipmap: bool = False, labels: bool = False) -> Path:
    """Save a logistic regression as ONNX; ``labels``: its classes are texts."""
    from skl2onnx import to_onnx

    flowers, species = iris()
    if labels:
        species = np.array(["setosa", "versicolor", "virginica"])[species]
    classifier = LogisticRegression(max_iter=500).fit(flowers, species)
    graph = to_onnx(classifier, flowers[:1], options={"zipmap": zipmap})
    path.write_bytes(graph.SerializeToString())
    return path


def save_pipeline(path: Path) -> tuple[Path, Any]:
    """Save a pipeline over a frame of numbers and texts with skops; give it too."""
    import pandas as pd
    import skops.io
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    homes = homes_of(300)
    is_dear = np.where((homes["rooms"] > 4) ^ (homes["the city"] == "Rome"), "dear", "cheap")
    columns = ColumnTransformer(
        [
            ("numbers", StandardScaler(), ["rooms", "size (m2)"]),
            ("texts", OneHotEncoder(handle_unknown="ignore"), ["the city"]),
        ]
    )
    forest = RandomForestClassifier(n_estimators=10, n_jobs=-1, random_state=0)
    pipeline = make_pipeline(columns, forest).fit(pd.DataFrame(homes), is_dear)
    skops.io.dump(pipeline, path)
    return path, pipeline


def save_forest(path: Path) -> Path:
    """Save a forest for flowers with skops."""
    import skops.io
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(5, random_state=0, n_jobs=-1)
    skops.io.dump(forest.fit(*iris()), path)
    return path


def save_torch(path: Path) -> Path:
    """Save an exported network for flowers."""
    import torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    batch = ({0: torch.export.Dim("batch")},)
    exported = torch.export.export(net.eval(), (torch.zeros(2, 4),), dynamic_shapes=batch)
    torch.export.save(exported, path)
    return path


def homes_of(count: int) -> dict[str, Any]:
    """Give homes, by column."""
    chance = np.random.default_rng(3)
    return {
        "rooms": chance.integers(1, 8, count).astype("float64"),
        "size (m2)": chance.uniform(20, 200, count),
        "the city": chance.choice(["Rome", "Oslo", "Bern"], count).astype(object),
    }


def save_xgboost(path: Path, *, names: bool = False, trees: int = 20) -> tuple[Path, Any]:
    """Save boosted trees in XGBoost's format; give the classifier too."""
    import pandas as pd
    import xgboost

    flowers, species = iris()
    classifier = xgboost.XGBClassifier(n_estimators=trees, max_depth=3)
    frame = pd.DataFrame(flowers, columns=["a b", "class", "c", "d"]) if names else flowers
    classifier.fit(frame, species).save_model(path)
    return path, classifier


def save_lightgbm(path: Path) -> tuple[Path, Any]:
    """Save boosted trees as LightGBM's text; give the classifier too."""
    import lightgbm

    flowers, species = iris()
    classifier = lightgbm.LGBMClassifier(n_estimators=20, verbose=-1)
    classifier.fit(flowers.astype("float64"), species == 2)
    classifier.booster_.save_model(path)
    return path, classifier
