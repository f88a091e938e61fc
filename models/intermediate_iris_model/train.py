"""Trains a random forest and writes it as ONNX.

The data are Fisher's 150 iris flowers (four lengths in cm, three species), 45 of them held out.
Same pinned versions, same bytes.
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

SEED = 0
NAME = "iris.onnx"


def train(folder: Path) -> None:
    """Writes the artefact into folder; prints held-out accuracy and the line for model.toml."""
    flowers, species = load_iris(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        flowers.astype(np.float32), species, test_size=0.3, random_state=SEED, stratify=species
    )
    classifier = RandomForestClassifier(n_estimators=100, random_state=SEED)
    classifier.fit(x_train, y_train)
    graph = to_onnx(classifier, x_train[:1], options={"zipmap": False})
    graph.opset_import.sort(key=lambda opset: opset.domain)  # it comes from a set, in any order
    artefact = graph.SerializeToString(deterministic=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NAME).write_bytes(artefact)
    accuracy = classifier.score(x_test, y_test)
    print(f"# held-out accuracy {accuracy:.3f} on {len(y_test)} flowers, before averaging")
    print(f'"{NAME}" = "sha256:{hashlib.sha256(artefact).hexdigest()}"')


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "assets")
    train(parser.parse_args().output)
