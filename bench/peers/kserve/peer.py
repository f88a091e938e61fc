"""How KServe's Python server is started and spoken to; ``README.md`` says why so."""

from __future__ import annotations

import json
from typing import Any

from bench.peers.open_inference import rest_call
from bench.peers.system import Call, Peer


def ask(model: str, instance: Any, form: str) -> Call:
    """Give a request of protocol V1, or of V2 with its binary extension."""
    if form == "binary":
        return rest_call(model, instance, form)
    body = json.dumps({"instances": [instance]}).encode()
    return Call(
        f"/v1/models/{model}:predict", body, lambda answer: json.loads(answer)["predictions"][0]
    )


PEERS = [
    Peer(
        name="kserve",
        title="KServe",
        command=("python", "-m", "bench.peers.kserve.server"),
        environment={"PYTHONWARNINGS": "ignore"},
        ask=ask,
        forms=("json", "binary"),
        v2=("json", "binary", "grpc"),
        has_batching=False,  # its batcher is another program, beside the server in Kubernetes
    )
]
