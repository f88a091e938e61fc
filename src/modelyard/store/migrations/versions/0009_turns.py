"""What a job's model says that it is at, and indexes by which owners take turns."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the column, make the index of queued jobs anew, and one of bulk runs among them."""
    op.add_column("jobs", sa.Column("progress_message", sa.String(200)))
    is_queued = sa.text("state = 'queued'")
    op.drop_index("jobs_queue", "jobs")
    is_bulk = sa.text("state = 'queued' AND door = 'bulk'")
    for name, where in (("jobs_queue", is_queued), ("jobs_bulk", is_bulk)):
        op.create_index(
            name,
            "jobs",
            ["model", "tenant", "rank", "ready_at"],
            sqlite_where=where,
            postgresql_where=where,
        )
