"""Iris species by a random forest, averaged over the error of the ruler.

Lengths are read to 0.1 cm, so a row stands for every flower within 0.05 cm of it. The forest sees
a sample of those flowers, and the species with the highest mean probability is the answer.
"""

from typing import Annotated, Literal

import numpy as np
import onnxruntime as ort
from msgspec import Meta

from modelyard import Model

DRAWS = 4_000
RULER_ERROR_CM = 0.05

Row = Annotated[
    list[float],
    Meta(
        min_length=4,
        max_length=4,
        title="Iris flower",
        description="Sepal length, sepal width, petal length and petal width, in cm.",
    ),
]
Species = Annotated[Literal[0, 1, 2], Meta(description="0 setosa, 1 versicolor, 2 virginica.")]


class IntermediateIris(Model):
    """Answers each row of four lengths in cm with the index of its most probable species.

    Every row gets the same draws, so an answer depends on its row alone: not on the rows that
    share its batch, nor on what was asked before.
    """

    example = [[5.1, 3.5, 1.4, 0.2]]

    def load(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(
            self.assets / "iris.onnx", options, providers=["CPUExecutionProvider"]
        )
        errors = np.random.default_rng(0).uniform(-RULER_ERROR_CM, RULER_ERROR_CM, (DRAWS, 4))
        self.errors = errors.astype(np.float32)  # (draws, 4), cm

    def predict(self, instances: list[Row]) -> list[Species]:
        return [self._classify(np.array(row, dtype=np.float32)) for row in instances]

    def _classify(self, row: np.ndarray[tuple[int], np.dtype[np.float32]]) -> Species:
        """The species of one row of shape (4,), in cm."""
        probabilities = self.session.run(["probabilities"], {"X": row + self.errors})[0]
        species: Species = probabilities.mean(axis=0).argmax().item()
        return species
