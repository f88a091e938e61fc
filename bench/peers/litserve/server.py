"""LitServe: one ``LitAPI`` per model; one instance per request."""

# No `from __future__ import annotations` here: LitServe reads the annotation of decode_request.
import os
from typing import Any

import litserve
from fastapi import Request

from bench.peers.subjects import load_subject
from bench.peers.told import Told, read_port, read_told


class Subject(litserve.LitAPI):
    """Answers instances, in batches where batching is on."""

    def __init__(self, model: str, told: Told) -> None:
        is_batched = told.batch_size > 1
        super().__init__(
            max_batch_size=told.batch_size,
            batch_timeout=0.001 if is_batched else 0,
            api_path=f"/{model}",
        )
        self.model = model

    def setup(self, device: str) -> None:
        self.subject = load_subject(self.model)

    def decode_request(self, request: Request) -> Any:
        return request["input"]  # by now it is what the JSON says

    def batch(self, inputs: list[Any]) -> Any:
        return inputs

    def predict(self, x: Any) -> Any:
        return self.subject(x) if self.max_batch_size > 1 else self.subject([x])[0]

    def unbatch(self, output: Any) -> Any:
        return output

    def encode_response(self, output: Any) -> Any:
        return {"output": output.tolist() if hasattr(output, "tolist") else output}


def main() -> None:
    """Serve until a signal says stop."""
    told = read_told()
    server = litserve.LitServer(
        [Subject(model, told) for model in told.models],
        accelerator="cpu",
        workers_per_device=told.runners,
        timeout=told.timeout_s,
        fast_queue=True,
    )
    server.run(
        host="127.0.0.1",
        port=read_port(),
        num_api_servers=int(os.environ.get("BENCH_API_SERVERS", "1")),
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
