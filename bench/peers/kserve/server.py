"""KServe's Python model server: one ``kserve.Model`` per model."""

from __future__ import annotations

import logging
from typing import Any

import uvicorn
from kserve import InferRequest, InferResponse, Model, ModelServer
from kserve.protocol.infer_type import InferOutput
from kserve.protocol.rest import server as rest

from bench.peers.subjects import IMAGE_SHAPE, SCORES, load_subject
from bench.peers.told import read_port, read_told


class Subject(Model):
    """Answers protocol V1; protocol V2, which can be binary, for images."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.subject: Any = None

    def load(self) -> bool:
        self.subject = load_subject(self.name)
        self.ready = True
        return True

    def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        """Answer one request."""
        if not isinstance(payload, InferRequest):
            answer = self.subject(payload["instances"])
            return {
                "predictions": [getattr(one, "tolist", lambda one=one: one)() for one in answer]
            }
        import numpy as np

        (tensor,) = payload.inputs
        scores = np.stack(self.subject(tensor.as_numpy().reshape(-1, *IMAGE_SHAPE)))
        output = InferOutput(name="scores", shape=[len(scores), SCORES], datatype="FP32")
        output.set_data_from_numpy(scores, binary_data=bool(payload.use_binary_outputs))
        return InferResponse(payload.id, self.name, [output], use_binary_outputs=True)


class OnLoopback(uvicorn.Config):
    """KServe listens on all addresses and cannot be told otherwise."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings | {"host": "127.0.0.1"})


def main() -> None:
    """Serve until a signal says stop."""
    told = read_told()
    models = [Subject(model) for model in told.models]
    for model in models:
        model.load()
    rest.uvicorn.Config = OnLoopback
    server = ModelServer(
        http_port=read_port(),
        workers=told.runners,
        enable_grpc=False,
        enable_latency_logging=False,
    )
    for name in ("uvicorn.access", "kserve.trace"):  # lines for each request, unlike the others
        logging.getLogger(name).disabled = True
    server.start(models)


if __name__ == "__main__":
    main()
