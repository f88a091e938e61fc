"""Migrations of the schema, by Alembic: one file for each revision in ``versions``."""
