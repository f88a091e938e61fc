"""What a job's model says that it is at, and an index by which owners take turns."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0007"


def upgrade() -> None:
    """Add the column, and make the index of queued jobs anew."""
    op.add_column("jobs", sa.Column("progress_message", sa.String(200)))
    is_queued = sa.text("state = 'queued'")
    op.drop_index("jobs_queue", "jobs")
    op.create_index(
        "jobs_queue",
        "jobs",
        ["model", "tenant", "rank", "ready_at"],
        sqlite_where=is_queued,
        postgresql_where=is_queued,
    )
