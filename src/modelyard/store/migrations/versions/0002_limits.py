"""Limits of keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add them; the keys that are there have none."""
    op.add_column("keys", sa.Column("rate", sa.Double))
    op.add_column("keys", sa.Column("burst", sa.Integer))
    op.add_column("keys", sa.Column("in_flight", sa.Integer))
