"""Versions that stay up after a route has left them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column."""
    op.add_column("routes", sa.Column("warm", sa.JSON))
