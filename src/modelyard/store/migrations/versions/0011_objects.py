"""Inputs and results of jobs that are objects in an object store."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add the columns that say which."""
    for table in ("job_inputs", "job_results"):
        op.add_column(table, sa.Column("object", sa.LargeBinary))
