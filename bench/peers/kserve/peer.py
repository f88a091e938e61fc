"""How KServe's Python server is started and spoken to; ``README.md`` says why so."""

from __future__ import annotations

import json
from typing import Any

from bench.peers.raw import float32_bytes, float32_values
from bench.peers.subjects import IMAGE_SHAPE
from bench.peers.system import Call, Peer

LENGTH = "Inference-Header-Content-Length"


def ask(model: str, instance: Any, form: str) -> Call:
    """Give a request of protocol V1, or of V2 with its binary extension."""
    if form == "binary":
        return _binary(model, instance)
    body = json.dumps({"instances": [instance]}).encode()
    return Call(
        f"/v1/models/{model}:predict", body, lambda answer: json.loads(answer)["predictions"][0]
    )


def _binary(model: str, instance: Any) -> Call:
    content = float32_bytes(instance)
    tensor = {
        "name": "image",
        "shape": [1, *IMAGE_SHAPE],
        "datatype": "FP32",
        "parameters": {"binary_data_size": len(content)},
    }
    head = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    start = json.dumps(head).encode()
    return Call(
        f"/v2/models/{model}/infer",
        start + content,
        lambda answer: float32_values(answer[-4 * 1000 :]),
        {"Content-Type": "application/octet-stream", LENGTH: str(len(start))},
    )


PEERS = [
    Peer(
        name="kserve",
        title="KServe",
        command=("python", "-m", "bench.peers.kserve.server"),
        environment={"PYTHONWARNINGS": "ignore"},
        ask=ask,
        forms=("json", "binary"),
        has_batching=False,  # its batcher is another program, beside the server in Kubernetes
    )
]
