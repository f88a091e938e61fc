"""MLServer: a custom runtime; not by ``decode_args``, which does not go with batching."""

from __future__ import annotations

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from bench.peers.subjects import IMAGE_SHAPE, load_subject


class Subject(MLModel):
    """Answers rows."""

    async def load(self) -> bool:
        self.subject = load_subject(self.name)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer a batch, which MLServer has put together along axis 0."""
        answers = self.answer(NumpyCodec.decode_input(payload.inputs[0]))
        return InferenceResponse(
            id=payload.id,
            model_name=self.name,
            outputs=[NumpyCodec.encode_output("predictions", answers)],
        )

    def answer(self, instances: np.ndarray) -> np.ndarray:
        return np.asarray(self.subject(instances))


class Image(Subject):
    """Answers image tensors with scores."""

    def answer(self, instances: np.ndarray) -> np.ndarray:
        return np.stack(self.subject(instances.reshape(-1, *IMAGE_SHAPE)))
