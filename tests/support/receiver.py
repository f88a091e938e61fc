"""A receiver of callbacks, which behaves as the path that it is called at says."""

from __future__ import annotations

import ssl
import threading
import time
from collections import Counter
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple, Self

from tests.support.server import PATIENCE_S


class Received(NamedTuple):
    """One request that came."""

    path: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """Listens on loopback as long as the ``with`` block.

    Answers with the status that the path begins with: ``/200/…``. ``/500-once/…`` fails at first,
    ``/301/…`` leads to ``/200/followed``, ``/429/…`` wants to be asked in an hour, and so
    does ``/503/…``, by a date. ``/never/…`` does not answer, ``/endless/…`` sends headers without
    end, ``/chatter/…`` is no HTTP.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.received: list[Received] = []
        self._seen: Counter[str] = Counter()
        self._is_over = threading.Event()
        self._tls = tls

    def __enter__(self) -> Self:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver._answer(self, Received(self.path, headers, body))

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        scheme = "http"
        if self._tls is not None:
            scheme = "https"
            self._server.socket = self._tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"{scheme}://localhost:{self.port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._server.shutdown()
        self._server.server_close()

    def at(self, path: str) -> list[Received]:
        """Return what came there so far."""
        return [one for one in self.received if one.path == path]

    def _answer(self, handler: BaseHTTPRequestHandler, received: Received) -> None:
        self.received.append(received)
        self._seen[received.path] += 1
        kind = received.path.split("/")[1]
        if kind == "never":
            self._is_over.wait(PATIENCE_S)
            return
        if kind == "chatter":
            handler.wfile.write(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")
            return
        if kind == "endless":
            handler.send_response(200)
            for number in range(2000):
                handler.send_header(f"x-{number}", "y" * 100)
        elif kind == "500-once":
            handler.send_response(500 if self._seen[received.path] == 1 else 200)
        else:
            handler.send_response(int(kind))
        if kind == "301":
            handler.send_header("location", "/200/followed")
        if kind == "429":
            handler.send_header("retry-after", "3600")
        if kind == "503":
            handler.send_header("retry-after", formatdate(time.time() + 3600, usegmt=True))
        handler.send_header("content-length", "0")
        handler.end_headers()
