"""Commands, arguments and options for what is kept in the store."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from modelyard.access.limits import Count
from modelyard.cli import storing
from modelyard.cli.options import Commands, add_store


def add_storing(commands: Commands) -> None:
    """Add the commands of the store."""
    for command in (*_add_keys(commands), *_add_store(commands), *_add_reading(commands)):
        add_store(command)


def _add_keys(commands: Commands) -> list[argparse.ArgumentParser]:
    keys = commands.add_parser(
        "keys",
        help="make, list, replace and revoke API keys",
        description="API keys, in the store: SQLite in the folder for state, or --database-url.",
    )
    actions = keys.add_subparsers(title="actions", required=True, metavar="ACTION")
    create = actions.add_parser("create", help="make a key; it is shown once")
    create.add_argument("--owner", required=True, help="whose it is: a team, a service")
    create.add_argument(
        "--scope",
        action="append",
        required=True,
        metavar="SCOPE",
        help="predict:MODEL, release:MODEL (* for any letters), read or admin; may be repeated",
    )
    create.add_argument("--id", help="a name for it (one is made)")
    create.add_argument("--expires", metavar="WHEN", help="90d, 12h, or 2027-01-31 (never)")
    create.add_argument(
        "--network",
        action="append",
        default=[],
        metavar="NETWORK",
        help="from where it may be used, as 10.0.0.0/8 (anywhere); may be repeated",
    )
    create.add_argument("--rate", type=float, help="requests per second")
    create.add_argument("--burst", type=float, help="requests at once, after a pause (a second's)")
    create.add_argument("--in-flight", type=int, help="requests unanswered at a time")
    create.add_argument("--per-day", type=float, help="requests in a day of UTC")
    create.add_argument("--per-month", type=float, help="requests in a calendar month")
    create.add_argument(
        "--count",
        choices=get_args(Count),
        default="requests",
        help="what these count: requests, their instances, or the model's weight (requests)",
    )
    create.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="LIMIT",
        help="a limit for some models, as models=iris*,count=instances,rate=50; may be repeated",
    )
    create.add_argument(
        "--toml", action="store_true", help="keep nothing: print the entry for a --keys-file"
    )
    create.set_defaults(run=storing.create)
    listing = actions.add_parser("list", help="list keys; never the keys themselves")
    listing.add_argument("--json", action="store_true", help="the same for programs")
    listing.set_defaults(run=storing.list_keys)
    rotate = actions.add_parser("rotate", help="make a new key in place of one")
    rotate.add_argument("id", metavar="ID")
    rotate.add_argument(
        "--grace", default="24h", metavar="TIME", help="how long the old one stays valid (24h)"
    )
    rotate.set_defaults(run=storing.rotate)
    revoke = actions.add_parser("revoke", help="make a key invalid, within 2 s, for ever")
    revoke.add_argument("id", metavar="ID")
    revoke.set_defaults(run=storing.revoke)
    return [create, listing, rotate, revoke]


def _add_store(commands: Commands) -> list[argparse.ArgumentParser]:
    store = commands.add_parser(
        "store",
        help="upgrade or back up the store",
        description="The store: what must last, in SQLite or PostgreSQL.",
    )
    works = store.add_subparsers(title="actions", required=True, metavar="ACTION")
    upgrade = works.add_parser("upgrade", help="make the schema, or bring it up to date")
    upgrade.set_defaults(run=storing.upgrade)
    backup = works.add_parser("backup", help="copy SQLite to a file, also while it is used")
    backup.add_argument("file", type=Path, metavar="FILE")
    backup.set_defaults(run=storing.backup)
    return [upgrade, backup]


def _add_reading(commands: Commands) -> list[argparse.ArgumentParser]:
    usage = commands.add_parser(
        "usage",
        help="show what callers have used, by day, key and model",
        description="What callers have used, from the store: requests, instances, seconds of the "
        "model's time.",
    )
    usage.add_argument("--since", metavar="DATE", help="the first day, as 2027-01-31 (30 days ago)")
    usage.add_argument("--until", metavar="DATE", help="the last day (today)")
    usage.add_argument("--csv", action="store_true", help="the same for spreadsheets")
    usage.set_defaults(run=storing.usage)
    audit = commands.add_parser(
        "audit",
        help="show who changed what, and who tried to and might not",
        description="Administrative acts, and those that were refused, from the store.",
    )
    audit.add_argument("--model", metavar="MODEL", help="acts that change this model")
    audit.add_argument("--owner", metavar="WHO", help="acts by somebody, or with a key of theirs")
    audit.add_argument(
        "--act", metavar="TEXT", help="acts that say so, as `route set`, alias or refused"
    )
    audit.add_argument("--since", metavar="WHEN", help="24h, 7d, or 2027-01-31 (the beginning)")
    audit.add_argument("--json", action="store_true", help="the same for programs")
    audit.set_defaults(run=storing.audit)
    return [usage, audit]
