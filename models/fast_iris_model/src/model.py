"""Iris species by logistic regression: one small matrix product for a whole batch."""

from typing import Annotated, Literal

import numpy as np
import onnxruntime as ort
from msgspec import Meta

from modelyard import Model

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


class FastIris(Model):
    """Answers each row of four lengths in cm with the index of its most probable species."""

    example = [[5.1, 3.5, 1.4, 0.2]]

    def load(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(
            self.assets / "iris.onnx", options, providers=["CPUExecutionProvider"]
        )

    def predict(self, instances: list[Row]) -> list[Species]:
        rows = np.array(instances, dtype=np.float32)
        species: list[Species] = self.session.run(["label"], {"X": rows})[0].tolist()
        return species
