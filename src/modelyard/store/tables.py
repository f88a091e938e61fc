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
