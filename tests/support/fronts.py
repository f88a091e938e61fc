"""Real proxies in front of a gateway: nginx and HAProxy, which keep their connections to it.

Each gives every request that it passes on an id of its own, ``front-…``, whatever the client sent.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from tests.support.bound import start
from tests.support.ports import free_port
from tests.support.server import PATIENCE_S, wait_until

FRONTS = ("nginx", "nginx that passes bodies on at once", "haproxy", "haproxy that is lenient")

_NGINX = """\
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/errors;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream gateway {{ server 127.0.0.1:{gateway}; keepalive 1; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://gateway;
      proxy_http_version 1.1;
      proxy_next_upstream off;
      proxy_request_buffering {buffering};
      proxy_set_header Connection "";
      proxy_set_header X-Request-Id front-$request_id;
    }}
  }}
}}
"""

_HAPROXY = """\
defaults
  mode http
  http-reuse always
  timeout connect 5s
  timeout client 5s
  timeout server 5s
frontend clients
  bind 127.0.0.1:{port}
  {lenient}
  http-request set-header X-Request-Id front-%[uuid]
  default_backend gateway
backend gateway
  server gateway 127.0.0.1:{gateway}
"""


@contextlib.contextmanager
def front(name: str, folder: Path, *, gateway: int) -> Iterator[int]:
    """Run one of ``FRONTS`` before the gateway at a port, as long as the block; gives its port."""
    folder.mkdir()
    port, path = free_port(), folder / "configuration"
    if name.startswith("nginx"):
        buffering = "on" if name == "nginx" else "off"
        text = _NGINX.format(folder=folder, gateway=gateway, port=port, buffering=buffering)
        command = [_program("nginx"), "-e", str(folder / "errors"), "-c", str(path)]
    else:
        lenient = "" if name == "haproxy" else "option accept-invalid-http-request"
        text = _HAPROXY.format(gateway=gateway, port=port, lenient=lenient)
        command = [_program("haproxy"), "-db", "-f", str(path)]
    path.write_text(text)
    with (folder / "output").open("wb") as output:
        process = start(command, stdout=output, stderr=output)
    try:
        wait_until(lambda: process.poll() is not None or _listens(port), what=name)
        assert process.poll() is None, (folder / "output").read_text()
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _program(name: str) -> str:
    found = shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    assert found, f"{name} is not installed: make setup-test"
    return found


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
