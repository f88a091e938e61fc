"""Broker addresses, parsed from URLs."""

from __future__ import annotations

import ssl
from typing import NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlsplit

PORTS = {"amqp": 5672, "amqps": 5671}


class Address(NamedTuple):
    """One broker. ``tls`` is None for ``amqp://``."""

    host: str
    port: int
    user: str
    password: str
    vhost: str
    tls: ssl.SSLContext | None

    def __str__(self) -> str:
        """Return the URL without user, password and parameters."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = "amqps" if self.tls else "amqp"
        vhost = "" if self.vhost == "/" else quote(self.vhost, safe="")
        return f"{scheme}://{host}:{self.port}/{vhost}"


def parse_addresses(urls: str) -> list[Address]:
    """Parse ``amqp://`` and ``amqps://`` URLs, separated by commas.

    ``amqps://`` takes the parameters ``cafile``, ``certfile`` and ``keyfile``.

    Raises:
        ValueError: A URL is invalid.
        OSError: A file that a URL names cannot be read.
    """
    return [_parse(url.strip()) for url in urls.split(",")]


def _parse(url: str) -> Address:
    parts = urlsplit(url)
    if parts.scheme not in PORTS or not parts.hostname:
        raise ValueError("expected amqp://user:password@host:port/vhost, or amqps://")
    files = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if unknown := set(files) - {"cafile", "certfile", "keyfile"}:
        raise ValueError(f"unknown parameter {min(unknown)!r}")
    tls = None
    if parts.scheme == "amqps":
        tls = ssl.create_default_context(cafile=files.get("cafile"))
        if "certfile" in files:
            tls.load_cert_chain(files["certfile"], files.get("keyfile"))
    return Address(
        host=parts.hostname,
        port=parts.port or PORTS[parts.scheme],
        user=unquote(parts.username or "guest"),
        password=unquote(parts.password or "guest"),
        vhost=unquote(parts.path[1:]) or "/",
        tls=tls,
    )
