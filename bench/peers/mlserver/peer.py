"""How MLServer is started and spoken to, in-process and with its worker; see ``README.md``."""

from __future__ import annotations

import json
from typing import Any

from bench.peers.subjects import IMAGE_SHAPE
from bench.peers.system import Call, Peer


def ask(model: str, instance: Any, form: str) -> Call:
    """Give a request of protocol V2, flat as its documentation writes tensors."""
    is_image = model == "image"
    tensor = {
        "name": "instances",
        "shape": [1, *(IMAGE_SHAPE if is_image else (len(instance),))],
        "datatype": "FP32" if is_image else "FP64",
        "data": _flat(instance),
    }

    def read(answer: bytes) -> Any:
        values = json.loads(answer)["outputs"][0]["data"]
        return values[0] if len(values) == 1 else values

    return Call(f"/v2/models/{model}/infer", json.dumps({"inputs": [tensor]}).encode(), read)


def _flat(values: Any) -> list[float]:
    if not isinstance(values, list):
        return [values]
    return [number for value in values for number in _flat(value)]


COMMAND = ("python", "-m", "bench.peers.mlserver.server")
PEERS = [
    Peer(name="mlserver", title="MLServer, in-process", command=COMMAND, ask=ask),
    Peer(
        name="mlserver-parallel",
        title="MLServer, parallel worker",
        command=COMMAND,
        ask=ask,
        environment={"BENCH_PARALLEL": "1"},
        home="mlserver",
    ),
]
