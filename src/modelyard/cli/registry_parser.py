"""Arguments and options of ``modelyard registry``."""

from __future__ import annotations

from pathlib import Path

from modelyard.cli import registering
from modelyard.cli.options import Commands, add_store

_REFERENCE = "MODEL@VERSION"


def add_registry(commands: Commands) -> None:
    """Add the command."""
    registry = commands.add_parser(
        "registry",
        help="push, list and fetch versions of models",
        description="The registry: versions of models that never change, and aliases for them. In "
        "the store of these settings, or that of a gateway: --url.",
    )
    actions = registry.add_subparsers(title="actions", required=True, metavar="ACTION")
    _add_pushing(actions)
    _add_looking(actions)
    _add_changing(actions)
    for command in actions.choices.values():
        command.add_argument("--url", help="a gateway whose registry is meant (registry_url)")
        add_store(command)
        command.add_argument(
            "--artefacts-url", metavar="URL", help="a folder, s3://…, gs://… or az://…"
        )


def _add_pushing(actions: Commands) -> None:
    push = actions.add_parser("push", help="push a model's folder as the version in model.toml")
    push.add_argument("folder", type=Path, metavar="FOLDER")
    push.add_argument("--commit", help="of the source code (that of the folder's repository)")
    push.add_argument(
        "--run", dest="trained_by", default="", help="of the training: an address, or a name"
    )
    push.add_argument(
        "--check",
        action="store_true",
        help="load it first, and push only if that works; its schemas are pushed too",
    )
    push.add_argument(
        "--reference",
        action="append",
        type=Path,
        metavar="SAMPLE",
        help="first make a profile of what the model should be asked, as `drift profile` does, and "
        "write it into the folder: with it requests are compared",
    )
    push.set_defaults(run=registering.push)
    importing = actions.add_parser("import", help="push a model of MLflow")
    importing.add_argument(
        "uri",
        metavar="URI",
        help="models:/NAME@ALIAS, models:/NAME/VERSION or runs:/RUN_ID/PATH",
    )
    importing.add_argument(
        "--from", dest="from_url", metavar="URL", help="address of MLflow (MLFLOW_TRACKING_URI)"
    )
    importing.add_argument(
        "--as", dest="as_", metavar=_REFERENCE, help="what it is called here (as there)"
    )
    importing.set_defaults(run=registering.import_model)
    for command in (push, importing):
        signing = command.add_mutually_exclusive_group()
        signing.add_argument(
            "--sign-key", type=Path, metavar="FILE", help="sign it with a private key, in PEM"
        )
        signing.add_argument(
            "--sign-at-sigstore",
            action="store_true",
            help="sign it as the workflow that runs, or you",
        )


def _add_looking(actions: Commands) -> None:
    listing = actions.add_parser("list", help="list versions")
    listing.add_argument("model", nargs="?", metavar="MODEL")
    listing.set_defaults(run=registering.list_versions)
    show = actions.add_parser("show", help="show a version, or a model and its history")
    show.add_argument("reference", metavar=f"{_REFERENCE}|MODEL")
    show.set_defaults(run=registering.show)
    for command in (listing, show):
        command.add_argument("--json", action="store_true", help="the same for programs")

    pull = actions.add_parser("pull", help="write a version's files into a folder")
    pull.add_argument(
        "--into", type=Path, metavar="FOLDER", help="an empty one, or a new one (MODEL)"
    )
    pull.set_defaults(run=registering.pull)
    verify = actions.add_parser(
        "verify", help="compare a version's artefacts with its digests and signature"
    )
    verify.set_defaults(run=registering.verify)
    for command in (pull, verify):
        command.add_argument("reference", metavar=_REFERENCE, help="or MODEL@ALIAS")


def _add_changing(actions: Commands) -> None:
    alias = actions.add_parser("alias", help="let an alias stand for a version")
    alias.add_argument("reference", metavar=_REFERENCE, help="or MODEL@ALIAS")
    alias.add_argument("alias", nargs="?", metavar="ALIAS")
    alias.add_argument("--why", default="", help="for the history")
    alias.add_argument("--remove", action="store_true", help="let MODEL@ALIAS stand for nothing")
    alias.set_defaults(run=registering.alias)

    collect = actions.add_parser(
        "gc",
        help="remove artefacts that no version needs, and old versions",
        description="Remove artefacts that no version needs and nobody has sent within a day. What "
        "an alias or a running worker names stays.",
    )
    collect.add_argument(
        "--keep",
        type=int,
        metavar="N",
        help="first remove versions but for the newest N of each model; needs --url",
    )
    collect.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    collect.set_defaults(run=registering.collect)
