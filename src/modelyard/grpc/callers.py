"""Who calls: the credential in a call's metadata, and the address that it came from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import unquote

from modelyard.access.gate import Credential
from modelyard.access.proxies import Proxies
from modelyard.core.routes import UNKNOWN, Who


def credential_of(metadata: Mapping[str, str | bytes]) -> bytes:
    """Return what tells who asks, as in HTTP; empty if there is nothing."""
    found = metadata.get("x-api-key") or metadata.get("authorization", b"")
    return found.encode() if isinstance(found, str) else found


def vouched(
    metadata: Iterable[tuple[str, str | bytes]], peer: str, proxies: Proxies | None
) -> Credential:
    """Return what tells who asks, with what a trusted proxy says of it."""
    pairs = tuple(metadata)
    sent = credential_of(dict(pairs))
    if proxies is None:
        return sent
    return proxies.vouch(fields_of(pairs), sent, peer=host_of(peer))


def who_in(metadata: Mapping[str, str | bytes], sticky_header: bytes) -> Who:
    """Return what names the caller for routes, as in HTTP."""
    found = metadata.get(sticky_header.decode("ascii"))
    if not found:
        return UNKNOWN
    return Who(header=found if isinstance(found, str) else found.decode("latin-1"))


def fields_of(metadata: Iterable[tuple[str, str | bytes]]) -> list[tuple[bytes, bytes]]:
    """Return metadata as headers."""
    return [
        (name.encode(), value if isinstance(value, bytes) else value.encode())
        for name, value in metadata
    ]


def host_of(peer: str) -> str:
    """Return the address in what gRPC calls a peer: ``ipv4:127.0.0.1:5000``."""
    kind, _, address = peer.partition(":")
    if kind == "unix":
        return "localhost"
    return unquote(address).rpartition(":")[0].strip("[]")
