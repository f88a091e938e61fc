"""Bulk runs in the store: their chunks, and files. The runs themselves are jobs."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from modelyard.core.clock import WallClock
from modelyard.jobs.bulk.order import Chunk, File, Mark, Totals, Wanted
from modelyard.store.away import away
from modelyard.store.changing import begin
from modelyard.store.tables import BULK_CHUNKS, BULK_FILES, JOB_INPUTS, JOBS

_LATE_S = 30.0  # of which the rate is told
_OF_FILE = [BULK_FILES.c[field.name] for field in msgspec.structs.fields(File)]


class BulkStore:
    """The book of bulk runs in a database; see ``BulkBook``.

    Args:
        engine: Of the database, whose schema is up to date.
        wall_clock: Unix time, in seconds.
    """

    def __init__(self, engine: sa.Engine, *, wall_clock: WallClock) -> None:
        self._engine = engine
        self._wall_clock = wall_clock

    def keep(self, uid: str, chunk: Chunk, *, progress: float | None) -> bool:
        """See ``BulkBook``."""
        is_mine = sa.and_(
            JOBS.c.uid == uid, JOBS.c.attempt == chunk.attempt, JOBS.c.state == "running"
        )
        told = {
            "revision": JOBS.c.revision + 1,
            "bytes": JOBS.c.bytes + chunk.bytes,
            "progress": progress,
        }
        row = {
            "uid": uid,
            **{name: getattr(chunk, name) for name in _SAME},
            "next_row": chunk.mark.row,
            "next_offset": chunk.mark.offset,
            "at": self._wall_clock(),
        }
        with away(self._engine), begin(self._engine) as connection:
            if not connection.execute(JOBS.update().where(is_mine).values(told)).rowcount:
                return False
            connection.execute(BULK_CHUNKS.insert().values(row))
        return True

    def chunks_of(self, uid: str) -> list[Chunk]:
        """See ``BulkBook``."""
        query = BULK_CHUNKS.select().where(BULK_CHUNKS.c.uid == uid)
        with away(self._engine), self._engine.connect() as connection:
            rows = connection.execute(query.order_by(BULK_CHUNKS.c.number)).all()
        return [
            Chunk(
                **{name: getattr(row, name) for name in _SAME},
                mark=Mark(row=row.next_row, offset=row.next_offset),
                at=row.at,
            )
            for row in rows
        ]

    def totals_of(self, uids: Sequence[str]) -> dict[str, Totals]:
        """See ``BulkBook``."""
        chunks = BULK_CHUNKS.c
        sums = [sa.func.sum(chunks[name]).label(name) for name in ("rows", "failed", "model_s")]
        query = (
            sa.select(
                chunks.uid,
                *sums,
                sa.func.sum(chunks.bytes).label("bytes"),
                sa.func.count().label("chunks"),
                sa.func.max(chunks.at).label("last"),
            )
            .where(chunks.uid.in_(uids))
            .group_by(chunks.uid)
        )
        with away(self._engine), self._engine.connect() as connection:
            found = connection.execute(query).all()
            rates = {row.uid: _rate_of(connection, row.uid, row.last) for row in found}
        return {
            row.uid: Totals(
                chunks=row.chunks,
                rows=int(row.rows),
                failed=int(row.failed),
                bytes=int(row.bytes),
                model_s=float(row.model_s),
                rows_per_s=rates[row.uid],
            )
            for row in found
        }

    def known(self, uids: Sequence[str]) -> set[str]:
        """See ``BulkBook``."""
        query = sa.select(JOBS.c.uid).where(JOBS.c.uid.in_(uids))
        with away(self._engine), self._engine.connect() as connection:
            return set(connection.execute(query).scalars())

    def order_of(self, uid: str) -> bytes | None:
        """See ``BulkBook``."""
        query = sa.select(JOB_INPUTS.c.content).where(JOB_INPUTS.c.uid == uid)
        with away(self._engine), self._engine.connect() as connection:
            found: bytes | None = connection.execute(query).scalar_one_or_none()
        return found

    def add_file(self, file: File) -> None:
        """See ``BulkBook``."""
        with away(self._engine), begin(self._engine) as connection:
            connection.execute(BULK_FILES.insert().values(msgspec.structs.asdict(file)))

    def find_file(self, file_id: str, tenant: str | None) -> File | None:
        """See ``BulkBook``."""
        query = sa.select(*_OF_FILE).where(BULK_FILES.c.id == file_id)
        if tenant is not None:
            query = query.where(BULK_FILES.c.tenant == tenant)
        with away(self._engine), self._engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else File(**row._mapping)

    def list_files(self, wanted: Wanted, most: int) -> list[File]:
        """See ``BulkBook``."""
        uid, is_desc = BULK_FILES.c.id, wanted.is_newest_first
        query = sa.select(*_OF_FILE).order_by(uid.desc() if is_desc else uid).limit(most)
        if wanted.tenant is not None:
            query = query.where(BULK_FILES.c.tenant == wanted.tenant)
        if wanted.purpose is not None:
            query = query.where(BULK_FILES.c.purpose == wanted.purpose)
        if wanted.after is not None:
            query = query.where(uid < wanted.after if is_desc else uid > wanted.after)
        with away(self._engine), self._engine.connect() as connection:
            return [File(**row._mapping) for row in connection.execute(query)]

    def remove_file(self, file_id: str) -> bool:
        """See ``BulkBook``."""
        change = BULK_FILES.delete().where(BULK_FILES.c.id == file_id)
        with away(self._engine), begin(self._engine) as connection:
            return bool(connection.execute(change).rowcount)

    def old_files(self, before: float, most: int) -> list[File]:
        """See ``BulkBook``."""
        query = (
            sa.select(*_OF_FILE)
            .where(BULK_FILES.c.created < before)
            .order_by(BULK_FILES.c.created)
            .limit(most)
        )
        with away(self._engine), self._engine.connect() as connection:
            return [File(**row._mapping) for row in connection.execute(query)]


_SAME = ("number", "attempt", "rows", "failed", "bytes", "model_s")


def _rate_of(connection: sa.Connection, uid: str, last: float) -> float:
    """Return how many rows a second were done of late, up to the last chunk."""
    query = (
        sa.select(BULK_CHUNKS.c.rows, BULK_CHUNKS.c.at)
        .where(BULK_CHUNKS.c.uid == uid, BULK_CHUNKS.c.at >= last - _LATE_S)
        .order_by(BULK_CHUNKS.c.number.desc())
        .limit(64)
    )
    found = connection.execute(query).all()
    span_s = found[0].at - found[-1].at
    rows = sum(row.rows for row in found[:-1])  # those of the first were before it
    return float(rows / span_s) if span_s > 0 else 0.0
