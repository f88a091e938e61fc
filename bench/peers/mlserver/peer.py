"""How MLServer is started and spoken to, in-process and with its worker; see ``README.md``."""

from __future__ import annotations

from bench.peers.open_inference import rest_call
from bench.peers.system import Peer

COMMAND = ("python", "-m", "bench.peers.mlserver.server")
PEERS = [
    Peer(
        name="mlserver",
        title="MLServer, in-process",
        command=COMMAND,
        ask=rest_call,
        v2=("json", "grpc"),
    ),
    Peer(
        name="mlserver-parallel",
        title="MLServer, parallel worker",
        command=COMMAND,
        ask=rest_call,
        v2=("json", "grpc"),
        environment={"BENCH_PARALLEL": "1"},
        home="mlserver",
    ),
]
