"""What a system is told: read by each peer's ``server.py``, in its own environment."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from typing import NamedTuple

PREFIX = "BENCH_"


class Told(NamedTuple):
    """What to serve, and how.

    Attributes:
        models: Names of ``subjects``.
        batch_size: The most instances of a batch; 1 switches batching off.
        runners: How many processes host each model.
        timeout_s: After which an answer is worthless, for systems that can be told so.
        queue: The most requests that should wait, for systems that can be told so; 0: as it comes.
        grpc_port: Where gRPC is to listen, of systems that have it; 0: nowhere.
    """

    models: tuple[str, ...] = ("iris",)
    batch_size: int = 64
    runners: int = 1
    timeout_s: float = 30
    queue: int = 0
    grpc_port: int = 0

    def environment(self) -> dict[str, str]:
        """Give it as environment variables."""
        texts = {name: str(value) for name, value in self._asdict().items()}
        texts["models"] = ",".join(self.models)
        return {PREFIX + name.upper(): text for name, text in texts.items()}


def read_told(environment: Mapping[str, str] = os.environ) -> Told:
    """Give what ``Told.environment`` wrote."""
    texts = {
        name: environment[PREFIX + name.upper()]
        for name in Told._fields
        if PREFIX + name.upper() in environment
    }
    plain = Told()
    return Told(
        models=tuple(texts.get("models", ",".join(plain.models)).split(",")),
        batch_size=int(texts.get("batch_size", plain.batch_size)),
        runners=int(texts.get("runners", plain.runners)),
        timeout_s=float(texts.get("timeout_s", plain.timeout_s)),
        queue=int(texts.get("queue", plain.queue)),
        grpc_port=int(texts.get("grpc_port", plain.grpc_port)),
    )


def read_port() -> int:
    """Give the port of the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    port: int = parser.parse_known_args()[0].port
    return port
