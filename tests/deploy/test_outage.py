"""What judges a broker's outage, end to end: only a gateway that keeps its promises passes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.server import ROOT

CACHED = [[5.1, 3.5, 1.4, 0.2]]


@contextmanager
def gateway(away: Path, behaviour: str) -> Iterator[str]:
    """Give the address of a gateway whose broker is away while the file is there."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            is_cached, is_away = body["input_data"] == CACHED, away.exists()
            if is_away and behaviour == "cuts":
                self.close_connection = True
            elif is_cached and not (is_away and behaviour == "forgets"):
                self._answer(200, {"prediction": [1 if behaviour == "errs" else 0]})
            elif is_away or (behaviour == "stays away" and away.with_suffix(".was").exists()):
                away.with_suffix(".was").touch()
                self._answer(503, {"code": "broker_away"})
            else:
                self._answer(200, {"prediction": [2]})

        def log_message(self, *args: object) -> None:
            """Say nothing."""

        def _answer(self, status: int, content: object) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            if status == 503 and behaviour != "gives no advice":
                self.send_header("retry-after", "1")
            self.end_headers()
            self.wfile.write(body)

    class Server(ThreadingHTTPServer):
        request_queue_size = 64
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("behaviour", "complaint"),
    [
        ("keeps its promises", ""),
        ("cuts", "fresh, cached: no answer"),
        ("forgets", "503 for what the cache knows"),
        ("errs", "a wrong answer"),
        ("gives no advice", "503, which is no 503 with Retry-After"),
        ("stays away", "not serving again 1 s after"),
    ],
)
def test_only_a_gateway_that_keeps_its_promises_passes(
    tmp_path: Path, behaviour: str, complaint: str
) -> None:
    away = tmp_path / "away"
    with gateway(away, behaviour) as url:
        done = subprocess.run(
            [
                *(sys.executable, ROOT / "deploy" / "e2e" / "outage.py", url),
                *("--stop", f"touch {away}", "--start", f"rm {away}"),
                *("--away", "0.5", "--around", "0.5"),
                *("--within", "1" if behaviour == "stays away" else "30"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == bool(complaint), done.stderr
    assert complaint in done.stderr
    for kind in ("fresh, cached", "kept, cached", "fresh, uncached", "kept, uncached"):
        assert f" {kind}: " in done.stdout
