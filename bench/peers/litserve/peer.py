"""How LitServe is started and spoken to; ``README.md`` says why so."""

from __future__ import annotations

import json
from typing import Any

from bench.peers.system import Call, Peer


def ask(model: str, instance: Any, form: str) -> Call:
    """Give a request in the form of its examples."""
    body = json.dumps({"input": instance}).encode()
    return Call(f"/{model}", body, lambda answer: json.loads(answer)["output"])


PEERS = [
    Peer(
        name="litserve",
        title="LitServe",
        command=("python", "-m", "bench.peers.litserve.server"),
        ask=ask,
    )
]
