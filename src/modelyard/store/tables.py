"""The tables. A change here needs a migration in ``migrations/versions``."""

from __future__ import annotations

import sqlalchemy as sa

METADATA = sa.MetaData()

KEYS = sa.Table(
    "keys",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("owner", sa.String(128), nullable=False),
    sa.Column("scopes", sa.JSON, nullable=False),
    sa.Column("networks", sa.JSON, nullable=False),
    sa.Column("created", sa.Double, nullable=False),  # Unix time, in seconds; so are all times
    sa.Column("expires", sa.Double),
    sa.Column("revoked", sa.Double),
    sa.Column("limits", sa.JSON, nullable=False),
)

SECRETS = sa.Table(
    "secrets",
    METADATA,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("key_id", sa.ForeignKey("keys.id"), nullable=False, index=True),
    sa.Column("shown", sa.String(16), nullable=False),  # the first letters
    sa.Column("created", sa.Double, nullable=False),
    sa.Column("expires", sa.Double),  # of one that was replaced
)

USAGE = sa.Table(
    "usage",
    METADATA,
    sa.Column("day", sa.String(10), primary_key=True),  # of UTC, as 2026-01-31
    sa.Column("key", sa.String(400), primary_key=True),
    sa.Column("model", sa.String(64), primary_key=True),
    sa.Column("owner", sa.String(400), nullable=False),
    sa.Column("requests", sa.BigInteger, nullable=False),
    sa.Column("instances", sa.BigInteger, nullable=False),
    sa.Column("weight", sa.Double, nullable=False),
    sa.Column("model_s", sa.Double, nullable=False),
)
"""What was used, by day, key and model: sums."""

CHANGES = sa.Table(
    "changes",
    METADATA,
    sa.Column("what", sa.String(32), primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
)
"""A number that grows with each change, so that readers need to look at nothing else."""

AUDIT = sa.Table(
    "audit",
    METADATA,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("actor", sa.String(128), nullable=False),
    sa.Column("action", sa.String(64), nullable=False),
    sa.Column("subject", sa.String(128), nullable=False, index=True),
    sa.Column("what", sa.String(256)),
    sa.Column("was", sa.String(256)),
    sa.Column("why", sa.Text),
)
"""Nothing in it is ever changed."""

VERSIONS = sa.Table(
    "versions",
    METADATA,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("version", sa.String(64), primary_key=True),
    sa.Column("digest", sa.String(71), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("contents", sa.Text, nullable=False),  # JSON
    sa.Column("is_signed", sa.Boolean, nullable=False),
    sa.Column("pushed_at", sa.Double, nullable=False),
    sa.Column("pushed_by", sa.String(128), nullable=False),
    sa.Column("removed", sa.Double),  # its name and digest stay taken
)

FILES = sa.Table(
    "files",
    METADATA,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("version", sa.String(64), primary_key=True),
    sa.Column("digest", sa.String(71), primary_key=True, index=True),
    sa.ForeignKeyConstraint(["name", "version"], ["versions.name", "versions.version"]),
)
"""Which versions need an artefact."""

ALIASES = sa.Table(
    "aliases",
    METADATA,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("alias", sa.String(64), primary_key=True),
    sa.Column("version", sa.String(64), nullable=False),
    sa.ForeignKeyConstraint(["name", "version"], ["versions.name", "versions.version"]),
)

ROUTES = sa.Table(
    "routes",
    METADATA,
    sa.Column("model", sa.String(64), primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),  # grows with each change
    sa.Column("route", sa.Text),  # JSON; none if requests go to the default version
    sa.Column("before", sa.Text),  # what a rollback brings back
    sa.Column("warm", sa.JSON),  # until when versions stay up, by version
)

JOBS = sa.Table(
    "jobs",
    METADATA,
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
    sa.Column("state", sa.String(10), nullable=False),  # delayed: queued, and not to be run yet
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
    sa.Column("holder", sa.String(128)),  # who runs it
    sa.Column("lease_until", sa.Double),
    sa.Column("callback", sa.Text),
    sa.Column("idempotency_key", sa.String(255)),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("answered_version", sa.String(64)),
    sa.Column("error", sa.Text),  # JSON
    sa.Column("progress", sa.Double),
    sa.Column("bytes", sa.BigInteger, nullable=False),  # of input and result
    sa.Column("progress_message", sa.String(200)),
    sa.Column("trace", sa.String(55)),
    sa.Index("jobs_id", "id", "tenant", unique=True),
    sa.Index("jobs_tenant", "tenant", "uid"),
)
_IS_KEYED = JOBS.c.idempotency_key.is_not(None)
_IS_OPEN = JOBS.c.finished.is_(None)
_WHERE = {
    ("jobs_key", "idempotency_key", "tenant"): _IS_KEYED,
    ("jobs_queue", "model", "tenant", "rank", "ready_at"): JOBS.c.state == "queued",
    ("jobs_bulk", "model", "tenant", "rank", "ready_at"): sa.and_(
        JOBS.c.state == "queued", JOBS.c.door == "bulk"
    ),
    ("jobs_delayed", "ready_at"): JOBS.c.state == "delayed",
    ("jobs_running", "lease_until"): JOBS.c.state == "running",
    ("jobs_failed", "tenant", "uid"): JOBS.c.state == "failed",
    ("jobs_deadline", "deadline"): _IS_OPEN,
    ("jobs_finished", "finished", "model", "bytes"): JOBS.c.finished.is_not(None),
}
for (_name, *_columns), _is in _WHERE.items():
    sa.Index(
        _name,
        *(JOBS.c[column] for column in _columns),
        unique=_name == "jobs_key",
        sqlite_where=_is,
        postgresql_where=_is,
    )

JOB_INPUTS = sa.Table(
    "job_inputs",
    METADATA,
    sa.Column("uid", sa.String(32), primary_key=True),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.Column("object", sa.LargeBinary),  # MessagePack; none if the content is here
)

JOB_RESULTS = sa.Table(
    "job_results",
    METADATA,
    sa.Column("uid", sa.String(32), primary_key=True),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.Column("object", sa.LargeBinary),  # likewise
)
"""Of each job that succeeded, one: written with its last state, by the attempt that held it."""

DELIVERIES = sa.Table(
    "deliveries",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("uid", sa.String(32), nullable=False, index=True),  # of the job
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("tenant", sa.String(32), nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("host", sa.String(255), nullable=False),  # with the port: of those that wait for it
    sa.Column("state", sa.String(10), nullable=False),  # pending, delivered, failed
    sa.Column("created", sa.Double, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("due", sa.Double),  # None if nothing is to be done any more
    sa.Column("finished", sa.Double),
    sa.Column("status", sa.Integer),  # of the last answer
    sa.Column("error", sa.Text),  # why the last attempt failed
    sa.Index("deliveries_tenant", "tenant", "id"),
    sa.Index(
        "deliveries_due",
        "due",
        sqlite_where=sa.text("due IS NOT NULL"),
        postgresql_where=sa.text("due IS NOT NULL"),
    ),
)
"""Callbacks: one for each time that a job came to its end."""

BULK_CHUNKS = sa.Table(
    "bulk_chunks",
    METADATA,
    sa.Column("uid", sa.String(32), primary_key=True),  # of the job
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("failed", sa.Integer, nullable=False),
    sa.Column("next_row", sa.BigInteger, nullable=False),
    sa.Column("next_offset", sa.BigInteger, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("model_s", sa.Double, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
)
"""What is done of bulk runs: written under the lease of the job, so each chunk once."""

BULK_FILES = sa.Table(
    "bulk_files",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("tenant", sa.String(32), nullable=False),
    sa.Column("owner", sa.String(400), nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("purpose", sa.String(32), nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("created", sa.Double, nullable=False),
    sa.Index("bulk_files_tenant", "tenant", "id"),
    sa.Index("bulk_files_created", "created"),
)
"""Files that callers have sent, to make bulk runs of."""
