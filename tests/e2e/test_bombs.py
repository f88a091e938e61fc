"""Small bodies that decompress to large ones: refused, and never held as a whole."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from modelyard.grpc.messages import SERVICE
from tests.support.identities import write_others
from tests.support.server import PATIENCE_S, Server, wait_until

BOMB_BYTES = 200 << 20
MOST_GROWTH_BYTES = 64 << 20  # the limit of a body, several times, and what is around it
ZEROS = bytes(1 << 20)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = write_others(tmp_path_factory.mktemp("models"))
    with Server(folder, settings={"MODELYARD_GRPC_PORT": "0"}) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the models")
        yield server


@cache
def pack(form: str, *, size: int = BOMB_BYTES) -> bytes:
    packer = zlib.compressobj(9, wbits=zlib.MAX_WBITS | (16 if form == "gzip" else 0))
    pieces = [packer.compress(ZEROS) for _ in range(size >> 20)]
    return b"".join([*pieces, packer.flush()])


class Peak:
    """The most memory that a server has had since this was made."""

    def __init__(self, server: Server) -> None:
        self._process = Path(f"/proc/{server.process.pid}")
        (self._process / "clear_refs").write_text("5")
        self._before = self._now()

    @property
    def grown(self) -> int:
        """By so many bytes."""
        return self._now() - self._before

    def _now(self) -> int:
        found = re.search(r"VmHWM:\s+(\d+) kB", (self._process / "status").read_text())
        assert found
        return int(found[1]) << 10


@pytest.mark.parametrize("form", ["gzip", "deflate"])
@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/predict", "application/json"),
        ("/predict", "application/msgpack"),
        ("/models/people/predict", "application/octet-stream"),
        ("/models/people/predict", "multipart/form-data; boundary=x"),
        ("/v2/models/people/infer", "application/json"),
        ("/v1/models/people:predict", "application/json"),
    ],
)
def test_a_bomb_is_refused(server: Server, form: str, path: str, content_type: str) -> None:
    peak, headers = Peak(server), {"content-type": content_type, "content-encoding": form}
    answer = server.http.post(path, content=pack(form), headers=headers)
    assert answer.status_code == 413, answer.text
    assert peak.grown < MOST_GROWTH_BYTES


def test_what_is_packed_twice_is_unpacked_once(server: Server) -> None:
    peak, bomb = Peak(server), gzip.compress(pack("gzip"))
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    assert server.http.post("/predict", content=bomb, headers=headers).status_code == 400
    headers["content-encoding"] = "gzip, gzip"
    assert server.http.post("/predict", content=bomb, headers=headers).status_code == 415
    both = httpx.Headers(
        [("content-encoding", "gzip")] * 2 + [("content-type", "application/json")]
    )
    assert server.http.post("/predict", content=bomb, headers=both).status_code >= 400
    assert peak.grown < MOST_GROWTH_BYTES


def test_a_bomb_over_grpc_is_refused(server: Server) -> None:
    peak = Peak(server)
    sizes = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(
        server.grpc_address, options=sizes, compression=grpc.Compression.Gzip
    ) as channel:
        ask: Any = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        for _ in range(3):
            with pytest.raises(grpc.RpcError) as raised:
                ask(bytes(BOMB_BYTES), timeout=PATIENCE_S)
            assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert peak.grown < MOST_GROWTH_BYTES
