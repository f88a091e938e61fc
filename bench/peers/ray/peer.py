"""How Ray Serve is started and spoken to, behind each of its two proxies; see ``README.md``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.peers.raw import raw_call
from bench.peers.system import Call, Peer


def ask(model: str, instance: Any, form: str) -> Call:
    """Give a request: the instance alone, answered by the prediction alone."""
    if form == "binary":
        return raw_call(f"/{model}", instance)
    return Call(f"/{model}", json.dumps(instance).encode(), json.loads)


COMMAND = ("python", "-m", "bench.peers.ray.server")
TUNED = {
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",  # nobody asks when it is to stop
}
HAPROXY = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_HAPROXY_BINARY_PATH": str(Path(__file__).with_name("haproxy_on_loopback.sh")),
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
}
PEERS = [
    Peer(
        name="ray",
        title="Ray Serve, HAProxy",
        command=COMMAND,
        environment=TUNED | HAPROXY,
        ask=ask,
        forms=("json", "binary"),
    ),
    Peer(
        name="ray-python",
        title="Ray Serve, Python proxy",
        command=COMMAND,
        environment=TUNED,
        ask=ask,
        forms=("json", "binary"),
        home="ray",
    ),
]
