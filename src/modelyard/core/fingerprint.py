"""Content addresses: of a model folder, and of one input to one model.

A cache key covers everything that an answer depends on, so an entry can never be stale: new code, a
new artefact or a new manifest gives new keys. Whoever stores an answer must know which folder
produced it.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b, sha256
from typing import Protocol

from modelyard.core.messages import Form

KEY_FORMAT = b"2"


class Readable(Protocol):
    """A stream that can be hashed piece by piece."""

    def read(self, size: int, /) -> bytes: ...


def digest_stream(stream: Readable) -> str:
    """Return ``sha256:<hex>`` of the rest of ``stream``."""
    digest = sha256()
    while piece := stream.read(1 << 20):
        digest.update(piece)
    return f"sha256:{digest.hexdigest()}"


def digest_tree(files: Iterable[tuple[str, str]]) -> str:
    """Return one digest for (relative path, digest) pairs, independent of their order."""
    digest = sha256()
    for path, file_digest in sorted(files):
        for part in (path, file_digest):
            encoded = part.encode(errors="surrogateescape")
            digest.update(len(encoded).to_bytes(4, "big") + encoded)
    return f"sha256:{digest.hexdigest()}"


class KeySpace:
    """The cache keys of one model folder for one tenant.

    A key is BLAKE2b-128 of the raw input bytes, keyed with what all its inputs share: format
    version, tenant, model name and folder digest.
    """

    def __init__(self, *, tenant: str, model: str, digest: str) -> None:
        self.digest = digest
        self._start = blake2b(KEY_FORMAT, digest_size=16, key=b"modelyard")
        for part in (tenant.encode(), model.encode(), digest.encode()):
            self._start.update(len(part).to_bytes(4, "big") + part)

    def key(self, raw_input: bytes | memoryview, form: Form = "json") -> bytes:
        """Return the 16-byte key of an input. Inputs that differ only in white space differ."""
        state = self._start.copy()
        state.update(raw_input)
        if form != "json":
            state.update(form.encode())
        return state.digest()
