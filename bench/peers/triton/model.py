"""The model of each folder of Triton's repository: runs in the stub of its Python backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import triton_python_backend_utils as triton  # the stub has it on its path

from bench.peers.subjects import load_subject


class TritonPythonModel:
    """Answers the requests of a batch together."""

    def initialize(self, args: dict[str, Any]) -> None:
        self.subject = load_subject(args["model_name"])
        self.dtype = np.int64 if args["model_name"] == "iris" else None

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer requests, of one instance or more each."""
        inputs = [triton.get_input_tensor_by_name(one, "input").as_numpy() for one in requests]
        answers = np.asarray(self.subject(np.concatenate(inputs)), dtype=self.dtype)
        rows = answers.reshape(len(answers), -1)
        ends = np.cumsum([len(one) for one in inputs])[:-1]
        return [
            triton.InferenceResponse([triton.Tensor("output", part)])
            for part in np.split(rows, ends)
        ]
