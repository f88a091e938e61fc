"""Records gathered until they are kept together: a chunk for each target and day."""

from __future__ import annotations

from typing import NamedTuple

from modelyard.payloads.writer.records import Record

RECORD_BYTES = 400  # of a record without its payloads, in memory


class Kind(NamedTuple):
    """What a chunk's records have in common; ``date``: of the day, as in 2026-11-29."""

    model: str
    version: str
    date: str


class Chunk:
    """Records of one kind; ``since``: when the first of them came."""

    def __init__(self, kind: Kind, since: float) -> None:
        self.kind = kind
        self.since = since
        self.records: list[Record] = []
        self.size = 0


class Chunks:
    """All chunks that are being filled.

    Args:
        chunk_s: How long one may be filled.
        chunk_bytes: How large it becomes.
        most_bytes: How large all become together.
    """

    def __init__(self, *, chunk_s: float, chunk_bytes: int, most_bytes: int) -> None:
        self._chunk_s, self._chunk_bytes, self._most_bytes = chunk_s, chunk_bytes, most_bytes
        self._open: dict[Kind, Chunk] = {}
        self._size = 0

    def add(self, record: Record, now: float) -> Chunk | None:
        """Add a record; returns a chunk that is full with it."""
        kind = Kind(record.model, record.version, record.time[:10])
        chunk = self._open.get(kind)
        if chunk is None:
            chunk = self._open[kind] = Chunk(kind, now)
        size = RECORD_BYTES + len(bytes(record.request)) + len(bytes(record.answer))
        chunk.records.append(record)
        chunk.size += size
        self._size += size
        if chunk.size >= self._chunk_bytes:
            return self._take(chunk)
        if self._size >= self._most_bytes:
            return self._take(max(self._open.values(), key=lambda chunk: chunk.size))
        return None

    def due(self, now: float) -> list[Chunk]:
        """Return those that have been filled for long enough."""
        old = [chunk for chunk in self._open.values() if now - chunk.since >= self._chunk_s]
        return [self._take(chunk) for chunk in old]

    def all(self) -> list[Chunk]:
        """Return all of them."""
        return [self._take(chunk) for chunk in list(self._open.values())]

    def _take(self, chunk: Chunk) -> Chunk:
        del self._open[chunk.kind]
        self._size -= chunk.size
        return chunk
