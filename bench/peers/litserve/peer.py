"""How LitServe is started and spoken to, with one API server and with two; see ``README.md``."""

from __future__ import annotations

import json
from typing import Any

from bench.peers.system import Call, Peer


def ask(model: str, instance: Any, form: str) -> Call:
    """Give a request in the form of its examples."""
    body = json.dumps({"input": instance}).encode()
    return Call(f"/{model}", body, lambda answer: json.loads(answer)["output"])


COMMAND = ("python", "-m", "bench.peers.litserve.server")
PEERS = [
    Peer(name="litserve", title="LitServe, 1 API server", command=COMMAND, ask=ask),
    Peer(
        name="litserve-two",
        title="LitServe, 2 API servers",
        command=COMMAND,
        ask=ask,
        environment={"BENCH_API_SERVERS": "2"},
        home="litserve",
    ),
]
