"""How BentoML is started and spoken to; ``README.md`` says why so."""

from __future__ import annotations

import json
from typing import Any

from bench.peers.system import Call, Peer


def ask(model: str, instance: Any, form: str) -> Call:
    """Give a request as its client library sends it."""
    body = json.dumps({"instances": [instance]}).encode()
    return Call(f"/{model}", body, lambda answer: json.loads(answer)[0])


PEERS = [
    Peer(
        name="bentoml",
        title="BentoML",
        command=(
            *("bentoml", "serve", "bench.peers.bentoml.server:Service"),
            *("--host", "127.0.0.1"),
        ),
        ask=ask,
    )
]
