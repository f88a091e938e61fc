"""Who calls: the credential in a call's metadata, and the address that it came from."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote


def credential_of(metadata: Mapping[str, str | bytes]) -> bytes:
    """Return what tells who asks, as in HTTP; empty if there is nothing."""
    found = metadata.get("x-api-key") or metadata.get("authorization", b"")
    return found.encode() if isinstance(found, str) else found


def host_of(peer: str) -> str:
    """Return the address in what gRPC calls a peer: ``ipv4:127.0.0.1:5000``."""
    kind, _, address = peer.partition(":")
    if kind == "unix":
        return "localhost"
    return unquote(address).rpartition(":")[0].strip("[]")
