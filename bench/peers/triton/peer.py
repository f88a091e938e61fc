"""How Triton is started and spoken to; ``README.md`` says why so."""

from __future__ import annotations

from bench.peers.open_inference import rest_call
from bench.peers.system import Peer

PEERS = [
    Peer(
        name="triton",
        title="Triton",
        command=("python", "-m", "bench.peers.triton.server"),
        ask=rest_call,
        forms=("json", "binary"),
        v2=("json", "binary", "grpc"),
    )
]
