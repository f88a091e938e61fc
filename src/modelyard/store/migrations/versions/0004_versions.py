"""The registry: versions, their files, aliases; and what the audit says of a change."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the tables; what the audit has says nothing more than before."""
    op.create_table(
        "versions",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("version", sa.String(64), primary_key=True),
        sa.Column("digest", sa.String(71), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("contents", sa.Text, nullable=False),
        sa.Column("is_signed", sa.Boolean, nullable=False),
        sa.Column("pushed_at", sa.Double, nullable=False),
        sa.Column("pushed_by", sa.String(128), nullable=False),
        sa.Column("removed", sa.Double),
    )
    op.create_table(
        "files",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("version", sa.String(64), primary_key=True),
        sa.Column("digest", sa.String(71), primary_key=True),
        sa.ForeignKeyConstraint(["name", "version"], ["versions.name", "versions.version"]),
    )
    op.create_index("ix_files_digest", "files", ["digest"])
    op.create_table(
        "aliases",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("alias", sa.String(64), primary_key=True),
        sa.Column("version", sa.String(64), nullable=False),
        sa.ForeignKeyConstraint(["name", "version"], ["versions.name", "versions.version"]),
    )
    for name in ("what", "was"):
        op.add_column("audit", sa.Column(name, sa.String(256)))
    op.add_column("audit", sa.Column("why", sa.Text))
    op.create_index("ix_audit_subject", "audit", ["subject"])
    # It is there before the first change, which then has a row to wait for.
    op.execute("INSERT INTO changes (what, number) VALUES ('registry', 0)")
