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

KEY_FORMAT = b"3"
NOBODY = b""
"""The tenant of requests whose callers are not known."""


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


def digest_tenant(name: str) -> bytes:
    """Return what stands for a tenant in keys. All are of one length."""
    return blake2b(name.encode(), digest_size=16).digest()


class KeySpace:
    """The cache keys of one model folder.

    A key is BLAKE2b-128 of the raw input bytes and the tenant, keyed with what all inputs share:
    format version, model name and folder digest.
    """

    def __init__(self, *, model: str, digest: str) -> None:
        self.digest = digest
        self._start = blake2b(KEY_FORMAT, digest_size=16, key=b"modelyard")
        for part in (model.encode(), digest.encode()):
            self._start.update(len(part).to_bytes(4, "big") + part)

    def key(
        self, raw_input: bytes | memoryview, form: Form = "json", tenant: bytes = NOBODY
    ) -> bytes:
        """Return the 16-byte key of an input. Inputs that differ only in white space differ.

        ``tenant``: see ``digest_tenant``. It is last, and always of one length, so no input of one
        tenant has the key of another one's.
        """
        state = self._start.copy()
        state.update(raw_input)
        if form != "json":
            state.update(form.encode())
        if tenant:
            state.update(tenant)
        return state.digest()
