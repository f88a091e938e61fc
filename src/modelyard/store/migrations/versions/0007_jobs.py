"""Jobs, and callbacks that tell of their ends."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the tables."""
    _make_jobs()
    for name, columns, is_unique, where in (
        ("jobs_id", ["id", "tenant"], True, None),
        ("jobs_tenant", ["tenant", "uid"], False, None),
        ("jobs_key", ["idempotency_key", "tenant"], True, "idempotency_key IS NOT NULL"),
        ("jobs_queue", ["model", "rank", "ready_at"], False, "state = 'queued'"),
        ("jobs_delayed", ["ready_at"], False, "state = 'delayed'"),
        ("jobs_running", ["lease_until"], False, "state = 'running'"),
        ("jobs_failed", ["tenant", "uid"], False, "state = 'failed'"),
        ("jobs_deadline", ["deadline"], False, "finished IS NULL"),
        ("jobs_finished", ["finished", "model", "bytes"], False, "finished IS NOT NULL"),
    ):
        _make_index(name, "jobs", columns, is_unique=is_unique, where=where)
    for name in ("job_inputs", "job_results"):
        op.create_table(
            name,
            sa.Column("uid", sa.String(32), primary_key=True),
            sa.Column("content", sa.LargeBinary, nullable=False),
        )
    _make_deliveries()
    _make_index("ix_deliveries_uid", "deliveries", ["uid"])
    _make_index("deliveries_tenant", "deliveries", ["tenant", "id"])
    _make_index("deliveries_due", "deliveries", ["due"], where="due IS NOT NULL")


def _make_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("uid", sa.String(32), primary_key=True),
        sa.Column("id", sa.String(128), nullable=False),
        sa.Column("tenant", sa.String(32), nullable=False),
        sa.Column("owner", sa.String(400), nullable=False),
        sa.Column("key", sa.String(400), nullable=False),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("version", sa.String(64)),
        sa.Column("form", sa.String(8), nullable=False),
        sa.Column("door", sa.String(8), nullable=False),
        sa.Column("echo", sa.Text, nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("rank", sa.Integer, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("ready_at", sa.Double, nullable=False),
        sa.Column("deadline", sa.Double, nullable=False),
        sa.Column("started", sa.Double),
        sa.Column("finished", sa.Double),
        sa.Column("timeout_s", sa.Double),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("max_attempts", sa.Integer, nullable=False),
        sa.Column("holder", sa.String(128)),
        sa.Column("lease_until", sa.Double),
        sa.Column("callback", sa.Text),
        sa.Column("idempotency_key", sa.String(255)),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("answered_version", sa.String(64)),
        sa.Column("error", sa.Text),
        sa.Column("progress", sa.Double),
        sa.Column("bytes", sa.BigInteger, nullable=False),
    )


def _make_deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("uid", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("tenant", sa.String(32), nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("due", sa.Double),
        sa.Column("finished", sa.Double),
        sa.Column("status", sa.Integer),
        sa.Column("error", sa.Text),
    )


def _make_index(
    name: str, table: str, columns: list[str], *, is_unique: bool = False, where: str | None = None
) -> None:
    is_it = None if where is None else sa.text(where)
    op.create_index(
        name, table, columns, unique=is_unique, sqlite_where=is_it, postgresql_where=is_it
    )
