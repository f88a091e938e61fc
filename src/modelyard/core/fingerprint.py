"""Content addresses: of a model folder, and of one question to one model.

A key holds everything that an answer depends on, so an entry can never be stale: new code, a new
artefact or a new manifest give new keys. Whoever stores an answer must know whose it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b, sha256
from typing import Protocol

from modelyard.core.messages import Form

KEY_FORMAT = b"2"


class Readable(Protocol):
    """What can be hashed in pieces."""

    def read(self, size: int, /) -> bytes: ...


def digest_stream(stream: Readable) -> str:
    """Give ``sha256:<hex>`` of all that ``stream`` still holds."""
    digest = sha256()
    while piece := stream.read(1 << 20):
        digest.update(piece)
    return f"sha256:{digest.hexdigest()}"


def digest_tree(files: Iterable[tuple[str, str]]) -> str:
    """Give one digest for (relative path, digest) pairs, whatever their order."""
    digest = sha256()
    for path, file_digest in sorted(files):
        for part in (path, file_digest):
            encoded = part.encode(errors="surrogateescape")
            digest.update(len(encoded).to_bytes(4, "big") + encoded)
    return f"sha256:{digest.hexdigest()}"


class KeySpace:
    """The keys of one model folder for one tenant.

    A key is BLAKE2b-128 of the raw input bytes, keyed with what all its questions share: format
    version, tenant, model name and folder digest.
    """

    def __init__(self, *, tenant: str, model: str, digest: str) -> None:
        self.digest = digest
        self._start = blake2b(KEY_FORMAT, digest_size=16, key=b"modelyard")
        for part in (tenant.encode(), model.encode(), digest.encode()):
            self._start.update(len(part).to_bytes(4, "big") + part)

    def key(self, raw_input: bytes | memoryview, form: Form = "json") -> bytes:
        """Give the 16-byte key of an input, byte for byte: other white space is another key."""
        state = self._start.copy()
        state.update(raw_input)
        if form != "json":
            state.update(form.encode())
        return state.digest()
