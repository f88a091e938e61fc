"""Trains five calibrated RBF support vector machines, one per fold, and writes them as ONNX.

The data are Fisher's 150 iris flowers (four lengths in cm, three species), 45 of them held out.
Same pinned versions, same bytes.
"""

import argparse
import hashlib
import warnings
from pathlib import Path

import numpy as np
from skl2onnx import to_onnx
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

SEED = 0
NAME = "iris.onnx"


def train(folder: Path) -> None:
    """Writes the artefact into folder; prints held-out accuracy and the line for model.toml."""
    flowers, species = load_iris(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        flowers.astype(np.float32), species, test_size=0.3, random_state=SEED, stratify=species
    )
    classifier = CalibratedClassifierCV(make_pipeline(StandardScaler(), SVC()), cv=5)
    classifier.fit(x_train, y_train)
    # The converter reads an attribute of SVC that scikit-learn is about to drop.
    warnings.filterwarnings("ignore", "Attribute .prob[AB]_. was deprecated", FutureWarning)
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
