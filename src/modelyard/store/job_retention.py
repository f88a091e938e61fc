"""Jobs in the store, forgotten after their ends."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from modelyard.store.away import away
from modelyard.store.changing import begin
from modelyard.store.job_queue import JobQueue
from modelyard.store.jobs import remove_jobs
from modelyard.store.tables import DELIVERIES, JOBS

_IS_OVER = JOBS.c.finished.is_not(None)
_IS_UNTOLD = (
    sa.select(DELIVERIES.c.id).where(DELIVERIES.c.uid == JOBS.c.uid, DELIVERIES.c.due.is_not(None))
).exists()


class Jobs(JobQueue):
    """The whole book of jobs; see ``jobs/interfaces.py``."""

    def purge(self, before: float, most: int) -> int:
        """See ``RetentionBook``."""
        old = sa.select(JOBS.c.uid).where(JOBS.c.finished < before, ~_IS_UNTOLD)
        with away(self.engine), self.engine.connect() as connection:
            uids = connection.execute(old.order_by(JOBS.c.finished).limit(most)).scalars().all()
        self._forget(uids)
        return len(uids)

    def sizes(self) -> dict[str, int]:
        """See ``RetentionBook``."""
        total = sa.func.sum(JOBS.c.bytes).label("total")
        query = sa.select(JOBS.c.model, total).where(_IS_OVER).group_by(JOBS.c.model)
        with away(self.engine), self.engine.connect() as connection:
            return {row.model: int(row.total) for row in connection.execute(query)}

    def trim(self, model: str, excess: int, most: int) -> int:
        """See ``RetentionBook``."""
        oldest = (
            sa.select(JOBS.c.uid, JOBS.c.bytes)
            .where(_IS_OVER, JOBS.c.model == model, ~_IS_UNTOLD)
            .order_by(JOBS.c.finished)
            .limit(most)
        )
        uids, freed = [], 0
        with away(self.engine), self.engine.connect() as connection:
            for row in connection.execute(oldest):
                if freed >= excess:
                    break
                uids.append(row.uid)
                freed += row.bytes
        self._forget(uids)
        return freed

    def _forget(self, uids: Sequence[str]) -> None:
        if uids:
            with away(self.engine), begin(self.engine) as connection:
                gone = remove_jobs(connection, uids)
            self.on_objects_gone(gone)
