"""KServe's Python model server: one ``kserve.Model`` per model."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import uvicorn
from grpc import aio
from kserve import InferRequest, InferResponse, Model, ModelServer
from kserve.protocol.grpc import server as grpc
from kserve.protocol.infer_type import InferOutput
from kserve.protocol.rest import server as rest
from kserve.utils.utils import generate_uuid

from bench.peers.subjects import load_subject
from bench.peers.told import read_port, read_told


class Subject(Model):
    """Answers protocol V1, and protocol V2 with one tensor, which can be binary."""

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
        answers = np.asarray(self.subject(tensor.as_numpy()))
        output = InferOutput(
            name="output",
            shape=list(answers.shape),
            datatype="INT64" if self.name == "iris" else tensor.datatype,
        )
        is_binary = bool(payload.use_binary_outputs)  # over gRPC, if the request is raw
        output.set_data_from_numpy(answers, binary_data=is_binary)
        return InferResponse(
            payload.id or generate_uuid(), self.name, [output], use_binary_outputs=is_binary
        )


class OnLoopback(uvicorn.Config):
    """KServe listens on all addresses and cannot be told otherwise."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings | {"host": "127.0.0.1"})


def _server_on_loopback(*args: Any, **settings: Any) -> Any:
    """Give a gRPC server that does likewise."""
    server = aio.server(*args, **settings)
    add_port = server.add_insecure_port
    server.add_insecure_port = lambda address: add_port(  # type: ignore[method-assign]
        address.replace("[::]", "127.0.0.1")
    )
    return server


def main() -> None:
    """Serve until a signal says stop."""
    told = read_told()
    models = [Subject(model) for model in told.models]
    for model in models:
        model.load()
    rest.uvicorn.Config = OnLoopback
    grpc.aio = SimpleNamespace(server=_server_on_loopback)
    server = ModelServer(
        http_port=read_port(),
        workers=told.runners,
        enable_grpc=bool(told.grpc_port),
        grpc_port=told.grpc_port,
        enable_latency_logging=False,
    )
    for name in ("uvicorn.access", "kserve.trace"):  # lines for each request, unlike the others
        logging.getLogger(name).disabled = True
    logging.getLogger("kserve").setLevel(logging.WARNING)  # over gRPC as well
    server.start(models)


if __name__ == "__main__":
    main()
