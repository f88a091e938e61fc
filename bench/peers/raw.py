"""Tensors as bytes: what a system gets that reads the body of a request itself."""

from __future__ import annotations

from typing import Any

from bench.peers.system import Call

HEADERS = {"Content-Type": "application/octet-stream"}


def float32_bytes(values: Any) -> bytes:
    """Give the little-endian bytes of a tensor."""
    import numpy as np

    return bytes(np.asarray(values, dtype="<f4").tobytes())


def float32_values(content: bytes) -> list[float]:
    """Give the numbers of a tensor of one dimension."""
    import numpy as np

    values: list[float] = np.frombuffer(content, dtype="<f4").tolist()
    return values


def raw_call(path: str, instance: Any) -> Call:
    """Give a request whose body and answer are nothing but the bytes of float32."""
    return Call(path, float32_bytes(instance), float32_values, HEADERS)
