"""Image tensors in, 1,000 scores out."""

from typing import Annotated

import numpy as np

from bench.peers.subjects import IMAGE_SHAPE, SCORES, load_subject
from modelyard import Model, Tensor


class Image(Model):
    """Answers an image with its scores."""

    def load(self) -> None:
        self.subject = load_subject("image")

    def predict(
        self, instances: Annotated[np.ndarray, Tensor("float32", IMAGE_SHAPE)]
    ) -> Annotated[np.ndarray, Tensor("float32", (SCORES,))]:
        return np.stack(self.subject(instances))
