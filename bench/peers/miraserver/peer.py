"""How miraserver is started and spoken to; ``README.md`` says why so."""

from __future__ import annotations

import json
from typing import Any

from bench.peers.raw import raw_call
from bench.peers.system import Call, Peer


def ask(model: str, instance: Any, form: str) -> Call:
    """Give a request in the form of its examples."""
    path = f"/v2/models/{model}/infer"
    if form == "binary":
        return raw_call(path, instance)
    body = json.dumps({"input": instance}).encode()
    return Call(path, body, lambda answer: json.loads(answer)["output"])


PEERS = [
    Peer(
        name="miraserver",
        title="miraserver",
        command=("python", "-m", "bench.peers.miraserver.server"),
        ask=ask,
        forms=("json", "binary"),
    )
]
