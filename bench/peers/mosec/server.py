"""Mosec: for each model a worker behind a route of its own; one instance per request."""

from __future__ import annotations

import os
from typing import Any

from mosec import Runtime, Server, Worker

from bench.peers.subjects import load_subject
from bench.peers.told import read_told


class Subject(Worker):
    """Answers instances in batches as Mosec forms them."""

    def __init__(self) -> None:
        super().__init__()
        self.subject = load_subject(os.environ["SUBJECT"])

    def forward(self, data: Any) -> Any:
        """Answer a batch, or one instance where batching is off."""
        if self.max_batch_size == 1:
            return self.subject([data])[0]
        return self.subject(data)


class Scores(Subject):
    """Writes arrays, as JSON."""

    def serialize(self, data: Any) -> bytes:
        return bytes(super().serialize(data.tolist()))


class RawScores(Subject):
    """Reads and writes arrays as the bytes of float32."""

    resp_mime_type = "application/octet-stream"

    def deserialize(self, data: bytes) -> Any:
        import numpy as np

        return np.frombuffer(data, dtype=np.float32)

    def serialize(self, data: Any) -> bytes:
        return bytes(data.tobytes())


def main() -> None:
    """Serve until a signal says stop; Mosec reads ``--port`` and the like itself."""
    told = read_told()
    routes = {f"/{model}": (Scores if model == "image" else Subject) for model in told.models}
    if "image" in told.models:
        routes["/image/raw"] = RawScores
    if told.queue:
        os.environ["MOSEC_CAPACITY"] = str(told.queue)
    server = Server()
    server.register_runtime(
        {
            route: [
                Runtime(
                    worker,
                    num=told.runners,
                    max_batch_size=told.batch_size,
                    max_wait_time=1,
                    timeout=told.timeout_s,
                    env=[{"SUBJECT": route.split("/")[1]}] * told.runners,
                )
            ]
            for route, worker in routes.items()
        }
    )
    server.run()


if __name__ == "__main__":
    main()
