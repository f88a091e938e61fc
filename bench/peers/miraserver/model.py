"""The model of each folder of miraserver's repository: runs in its worker."""

from __future__ import annotations

from typing import Any

import numpy as np
from lite_server import LitAPI, Response

from bench.peers.subjects import load_subject


class Batch(list[Any]):
    """Several instances: a request that is alone comes without passing ``batch``."""


class Subject(LitAPI):
    """Answers instances, in batches where batching is on."""

    def setup(self, device: str) -> None:
        self.subject = load_subject(self.config["subject"])

    def decode_request(self, request: Any) -> Any:
        """Read a tensor's bytes, or take what the JSON says."""
        if isinstance(request, bytes):
            return np.frombuffer(request, dtype=np.float32)
        return request["input"]

    def batch(self, inputs: list[Any]) -> Any:
        return Batch(inputs)

    def predict(self, x: Any) -> Any:
        return self.subject(x) if isinstance(x, Batch) else self.subject([x])[0]

    def unbatch(self, output: Any) -> Any:
        return output

    def encode_response(self, output: Any, ctx: Any) -> Any:
        """Answer in the form of the request."""
        if isinstance(ctx.request, bytes):
            return Response(content=output.tobytes(), media_type="application/octet-stream")
        return {"output": output.tolist() if isinstance(output, np.ndarray) else output}
