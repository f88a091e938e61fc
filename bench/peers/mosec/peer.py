"""How Mosec is started and spoken to; ``README.md`` says why so."""

from __future__ import annotations

import json
from typing import Any

from bench.peers.raw import raw_call
from bench.peers.system import Call, Peer


def ask(model: str, instance: Any, form: str) -> Call:
    """Give a request: the instance alone, answered by the prediction alone."""
    if form == "binary":
        return raw_call(f"/{model}/raw", instance)
    return Call(f"/{model}", json.dumps(instance).encode(), json.loads)


PEERS = [
    Peer(
        name="mosec",
        title="Mosec",
        command=("python", "-m", "bench.peers.mosec.server", "--address", "127.0.0.1"),
        environment={"MOSEC_LOG_LEVEL": "warning"},
        ask=ask,
        forms=("json", "binary"),
    )
]
