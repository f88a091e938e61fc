"""Limits of models, of a day and a month; usage."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

AMOUNTS = ("rate", "burst", "in_flight")


def upgrade() -> None:
    """Make a list of the one limit that a key may have had, and a table of usage."""
    op.add_column("keys", sa.Column("limits", sa.JSON, nullable=False, server_default="[]"))
    keys = sa.table("keys", sa.column("id"), sa.column("limits", sa.JSON), *map(sa.column, AMOUNTS))
    connection = op.get_bind()
    for row in connection.execute(sa.select(keys)).mappings().all():
        limit = {name: row[name] for name in AMOUNTS if row[name] is not None}
        if limit:
            changed = keys.update().where(keys.c.id == row["id"]).values(limits=[limit])
            connection.execute(changed)
    with op.batch_alter_table("keys") as table:
        for name in AMOUNTS:
            table.drop_column(name)
    op.create_table(
        "usage",
        sa.Column("day", sa.String(10), primary_key=True),
        sa.Column("key", sa.String(400), primary_key=True),
        sa.Column("model", sa.String(64), primary_key=True),
        sa.Column("owner", sa.String(400), nullable=False),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("instances", sa.BigInteger, nullable=False),
        sa.Column("weight", sa.Double, nullable=False),
        sa.Column("model_s", sa.Double, nullable=False),
    )
