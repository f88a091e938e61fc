"""How Ray Serve is started and spoken to; ``README.md`` says why so."""

from __future__ import annotations

import json
from typing import Any

from bench.peers.raw import raw_call
from bench.peers.system import Call, Peer


def ask(model: str, instance: Any, form: str) -> Call:
    """Give a request: the instance alone, answered by the prediction alone."""
    if form == "binary":
        return raw_call(f"/{model}", instance)
    return Call(f"/{model}", json.dumps(instance).encode(), json.loads)


PEERS = [
    Peer(
        name="ray",
        title="Ray Serve",
        command=("python", "-m", "bench.peers.ray.server"),
        environment={"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_SERVE_LOG_TO_STDERR": "0"},
        ask=ask,
        forms=("json", "binary"),
    )
]
