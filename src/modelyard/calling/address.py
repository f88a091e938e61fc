"""Where a gateway is: ``http://HOST:PORT/PATH``, ``https://…``, or a socket, ``unix:PATH``."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

UNIX = "unix:"
_PORTS = {"http": 80, "https": 443}


class Address(NamedTuple):
    """A gateway's address.

    Attributes:
        host: Its name or address; of a socket "localhost".
        port: Its port.
        path: What stands before its own paths.
        is_secure: Whether it speaks TLS.
        socket: The path of the socket; empty for none.
    """

    host: str
    port: int
    path: str = ""
    is_secure: bool = False
    socket: str = ""


def parse_address(url: str) -> Address:
    """Read an address.

    Raises:
        ValueError: It is none.
    """
    if url.startswith(UNIX):
        return Address("localhost", 80, socket=url.removeprefix(UNIX))
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError(f"{url}: expected http://HOST, https://HOST or unix:PATH")
    port = parts.port or _PORTS[parts.scheme]
    return Address(parts.hostname, port, parts.path.rstrip("/"), parts.scheme == "https")
