"""Commands, arguments and options for routes."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from modelyard.cli import routing
from modelyard.cli.options import Commands, add_store
from modelyard.core.routes import Sticky


def add_routes(commands: Commands) -> None:
    """Add ``route`` and ``apply``."""
    route = commands.add_parser(
        "route",
        help="spread a model's requests over its versions",
        description="Where requests go that name no version. Gateways follow within 2 s. A version "
        "gets nothing before it is ready.",
    )
    actions = route.add_subparsers(title="actions", required=True, metavar="ACTION")
    show = actions.add_parser("show", help="show routes")
    show.add_argument("model", nargs="?", metavar="MODEL")
    show.add_argument("--json", action="store_true", help="the same for programs")
    show.set_defaults(run=routing.show)

    setting = actions.add_parser("set", help="set the weights of versions, which add up to 100")
    setting.add_argument("model", metavar="MODEL")
    setting.add_argument("weight", nargs="+", metavar="VERSION=PERCENT")
    setting.add_argument(
        "--sticky",
        choices=get_args(Sticky),
        default="no",
        help="send a caller to the same version: by the owner of its key, or by the header that "
        "the setting sticky_header names (no)",
    )
    setting.add_argument(
        "--guard",
        nargs="?",
        const="",
        metavar="errors=0.1,slower=3,over=100",
        help="take a version out at a gateway where it fails or is slow beside the main one",
    )
    setting.set_defaults(run=routing.set_route)
    shadow = actions.add_parser(
        "shadow",
        help="send copies of requests to a version that answers nobody",
        description="The copies have low priority; the metrics say how their answers compare.",
    )
    shadow.add_argument("model", metavar="MODEL")
    shadow.add_argument("to", metavar="VERSION[=PERCENT]|off")
    shadow.set_defaults(run=routing.shadow)
    promote = actions.add_parser("promote", help="send all requests to one version")
    promote.add_argument("model", metavar="MODEL")
    promote.add_argument("version", metavar="VERSION")
    promote.set_defaults(run=routing.promote)
    rollback = actions.add_parser("rollback", help="go back to the route that was before")
    rollback.add_argument("model", metavar="MODEL")
    rollback.set_defaults(run=routing.rollback)
    clear = actions.add_parser("clear", help="send requests to the default version again")
    clear.add_argument("model", metavar="MODEL")
    clear.set_defaults(run=routing.clear)

    applying = commands.add_parser(
        "apply",
        help="make the routes those of a file",
        description="Make all routes those of a file in TOML, with a table [routes.MODEL] for "
        "each: weights, and if wanted sticky, guard, shadow and keep_warm. With --dry-run it shows "
        "what differs.",
    )
    applying.add_argument("-f", "--file", type=Path, required=True, metavar="FILE")
    applying.set_defaults(run=routing.apply)

    for command in (setting, promote):
        command.add_argument(
            "--keep-warm",
            metavar="TIME",
            help="how long the versions that were stay up, for a rollback: 1h; 0s ends it",
        )
    for command in (setting, shadow, promote, rollback, clear, applying):
        command.add_argument("--dry-run", action="store_true", help="only say what would change")
        command.add_argument("--why", default="", help="for the audit")
        command.add_argument("--url", help="URL of a gateway to ask (http://127.0.0.1:8000)")
        command.add_argument(
            "--unchecked", action="store_true", help="also lead to versions that nobody knows"
        )
    for command in (show, setting, shadow, promote, rollback, clear, applying):
        add_store(command)
