"""``registry``: versions of models are pushed, looked at, and fetched."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from modelyard.cli.drifting import write_reference
from modelyard.cli.mistakes import UsageError, warn
from modelyard.cli.storing import user
from modelyard.cli.telling import print_table, tell_moment
from modelyard.core.names import Target, is_name
from modelyard.core.references import Reference, parse_reference
from modelyard.core.versions import Artefact, Contents, VersionDetails, VersionSummary
from modelyard.folder import MANIFEST, read_manifest
from modelyard.settings import load_settings
from modelyard.surroundings import read_mlflow

if TYPE_CHECKING:
    from modelyard.registry.interface import Registry


def push(options: argparse.Namespace) -> None:
    """Push a model's folder."""
    from modelyard.registry.folders import push_folder, read_contents

    folder: Path = options.folder.resolve()
    if not (folder / MANIFEST).is_file():
        raise UsageError(f"{options.folder} is no model's folder: it has no {MANIFEST}")
    commit = _commit_of(folder) if options.commit is None else options.commit
    if options.reference:
        write_reference(folder, options.reference, read_manifest(folder).name)
    target, contents = read_contents(folder)
    contents = msgspec.structs.replace(
        contents,
        commit=commit,
        run=options.trained_by,
        schema=_schema_of(folder) if options.check else {},
    )
    contents = _signed(contents, options)
    registry = _open(options, makes=True)
    version = push_folder(registry, folder, target, contents, on_file=_say_sent)
    print(f"{version.name}@{version.version} {version.digest}")


def import_model(options: argparse.Namespace) -> None:
    """Push a model of MLflow."""
    from modelyard.registry.folders import push_folder, read_contents
    from modelyard.registry.mlflow import Login, Mlflow, model_toml, target_of

    settings, mlflow = load_settings(vars(options)), read_mlflow()
    login = Login(mlflow.token, mlflow.username, mlflow.password)
    server = Mlflow(options.from_url or mlflow.url, login)
    found = server.find(options.uri)
    target = target_of(found) if options.as_ is None else _target(options.as_)
    if found.uri != options.uri:
        warn(f"{options.uri} is {found.uri} now")
    with tempfile.TemporaryDirectory(prefix="modelyard-import-") as temporary:
        folder = Path(temporary, target.name)
        most_bytes = settings.max_artefact_mb * 1_000_000
        server.download(found, folder / "assets" / "model", most_bytes=most_bytes)
        (folder / MANIFEST).write_text(model_toml(target, found), encoding="utf-8")
        _, contents = read_contents(folder)
        run = f"{found.run} ({found.uri})" if found.run else found.uri
        contents = _signed(
            msgspec.structs.replace(contents, runtime="mlflow", commit=found.commit, run=run),
            options,
        )
        registry = _open(options, makes=True)
        version = push_folder(registry, folder, target, contents, on_file=_say_sent)
    print(f"{version.name}@{version.version} {version.digest}")


def list_versions(options: argparse.Namespace) -> None:
    """List versions."""
    found = _open(options).versions(options.model)
    if options.model is not None and not found:
        raise UsageError(f"the registry has no model {options.model}")
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(found)).decode())
        return
    _print_versions(found)


def show(options: argparse.Namespace) -> None:
    """Show a version, or a model with its history."""
    from modelyard.registry.folders import find_version

    registry = _open(options)
    reference = parse_reference(options.reference)
    if reference is None and is_name(options.reference):
        _show_model(registry, options.reference, as_json=options.json)
        return
    version = find_version(registry, _reference(options))
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(version)).decode())
        return
    contents = version.contents
    facts = {
        "version": f"{version.name}@{version.version}",
        "digest": version.digest,
        "pushed": f"{tell_moment(version.pushed_at)} by {version.pushed_by}",
        "aliases": ", ".join(version.aliases) or "none",
        "runtime": contents.runtime,
        "commit": contents.commit or "not said",
        "run": contents.run or "not said",
        "signature": "yes" if version.is_signed else "none",
        "schema": json.dumps(contents.schema) if contents.schema else "not said",
    }
    for name, value in facts.items():
        print(f"{name:10} {value}")
    for file in contents.files:
        print(f"  {file.digest}  {_size(file.size):>9}  {file.path}")


def pull(options: argparse.Namespace) -> None:
    """Write a version's files into a folder."""
    from modelyard.registry.folders import find_version, pull_version, verify_folder

    registry, reference = _open(options), _reference(options)
    version = find_version(registry, reference)
    into: Path = options.into or Path(version.name)
    if into.exists() and any(into.iterdir()):
        raise UsageError(f"{into} is not empty; name another folder: --into FOLDER")
    begun = into.with_name(f".{into.name}.begun")
    shutil.rmtree(begun, ignore_errors=True)
    try:
        pull_version(registry, version, begun)
        verify_folder(begun, version)
        if into.exists():
            into.rmdir()
        begun.rename(into)
    finally:
        shutil.rmtree(begun, ignore_errors=True)
    _say_resolved(reference, version)
    print(f"{into}: {version.name}@{version.version} {version.digest}")


def verify(options: argparse.Namespace) -> None:
    """Read a version's artefacts, and compare them with its digests and its signature."""
    from modelyard.compose.registry import open_trust
    from modelyard.registry.folders import find_version, verify_artefacts

    registry, reference = _open(options), _reference(options)
    trust = open_trust(load_settings(vars(options)))
    version = find_version(registry, reference)
    verify_artefacts(registry, version)
    signer = "" if trust is None else f", signed by {trust.check(version.target, version.contents)}"
    _say_resolved(reference, version)
    count = len(version.contents.files)
    what = f"{count} files, {_size(version.size)}, as pushed"
    print(f"{version.name}@{version.version}: {what}{signer}")


def alias(options: argparse.Namespace) -> None:
    """Let an alias stand for a version, or for nothing."""
    from modelyard.registry.folders import find_version

    registry, reference = _open(options), _reference(options)
    if options.remove:
        registry.remove_alias(reference.name, reference.version, why=options.why)
        print(f"{reference} stands for nothing now")
        return
    if options.alias is None:
        raise UsageError("name the alias as well: modelyard registry alias MODEL@VERSION ALIAS")
    version = find_version(registry, reference)
    was = registry.set_alias(Target(version.name, version.version), options.alias, why=options.why)
    before = f", was {was}" if was else ""
    print(f"{version.name}@{options.alias} stands for {version.version}{before}")


def collect(options: argparse.Namespace) -> None:
    """Remove what nothing needs."""
    found = _open(options).collect(keep=options.keep, is_dry=options.dry_run)
    verb = "removed" if found.is_done else "would remove"
    for version in found.versions:
        print(f"{verb} {version}")
    print(f"{verb} {len(found.artefacts)} artefacts, {_size(found.freed_bytes)}")


def _signed(contents: Contents, options: argparse.Namespace) -> Contents:
    """Return what is pushed with the signature that is asked for."""
    from modelyard.registry.signatures import sign, sign_at_sigstore

    if options.sign_key is not None:
        return msgspec.structs.replace(contents, signature=sign(contents, options.sign_key))
    if options.sign_at_sigstore:
        return msgspec.structs.replace(contents, signature=sign_at_sigstore(contents))
    return contents


def _schema_of(folder: Path) -> dict[str, Any]:
    """Load a model once, and return the schemas of what it takes and gives.

    Raises:
        UsageError: It does not load.
    """
    import asyncio

    from modelyard.check.trial import load_once
    from modelyard.compose.launching import make_equipper

    manifest = read_manifest(folder)
    try:
        equipper = make_equipper(load_settings({}), [manifest])
        equipment = asyncio.run(equipper.equip(folder, manifest, on_step=lambda _: None))
    except OSError as error:
        raise UsageError(f"{manifest.target} cannot be loaded here: {error}") from error
    try:
        said = load_once(folder, manifest, equipment).said
    finally:
        equipment.give_back()
    if isinstance(said, str):
        raise UsageError(f"{manifest.target} does not load: {said}")
    pairs = {"input": said.input_schema, "output": said.output_schema, "example": said.example}
    return {name: msgspec.json.decode(text) for name, text in pairs.items()}


def _say_sent(file: Artefact) -> None:
    print(f"sends {file.path}, {_size(file.size)}", flush=True)


def _target(text: str) -> Target:
    reference = parse_reference(text)
    if reference is None or reference.digest:
        raise UsageError(f"--as {text}: expected MODEL@VERSION")
    return Target(reference.name, reference.version)


def _open(options: argparse.Namespace, *, makes: bool = False) -> Registry:
    from modelyard.compose.registry import open_registry

    settings = load_settings({**vars(options), "registry_url": options.url})
    return open_registry(settings, actor=user(), makes=makes)


def _reference(options: argparse.Namespace) -> Reference:
    reference = parse_reference(options.reference)
    if reference is None:
        raise UsageError(f"{options.reference}: expected MODEL@VERSION or MODEL@ALIAS")
    return reference


def _say_resolved(reference: Reference, version: VersionDetails) -> None:
    if reference.version != version.version:
        warn(f"{reference} stands for {version.version} now")


def _show_model(registry: Registry, name: str, *, as_json: bool) -> None:
    found, changes = registry.versions(name), registry.audit(name)
    if not changes:
        raise UsageError(f"the registry has no model {name}; `modelyard registry list` lists all")
    if as_json:
        made = {"versions": found, "changes": changes}
        print(msgspec.json.format(msgspec.json.encode(made)).decode())
        return
    _print_versions(found)
    print()
    for change in changes:
        was = f", was {change.was}" if change.was else ""
        why = f": {change.why}" if change.why else ""
        print(f"{tell_moment(change.at)}  {change.actor}  {change.action} {change.what}{was}{why}")


def _print_versions(versions: list[VersionSummary]) -> None:
    heads = ("MODEL", "VERSION", "ALIASES", "SIZE", "SIGNED", "PUSHED", "BY", "DIGEST")
    print_table([heads, *map(_row, versions)])


def _row(version: VersionSummary) -> tuple[str, ...]:
    return (
        version.name,
        version.version,
        ", ".join(version.aliases) or "-",
        _size(version.size),
        "yes" if version.is_signed else "no",
        tell_moment(version.pushed_at),
        version.pushed_by,
        version.digest[: len("sha256:") + 12],
    )


def _size(size: int) -> str:
    number, units = float(size), ["B", "kB", "MB", "GB", "TB"]
    while number >= 1000 and len(units) > 1:
        number, units = number / 1000, units[1:]
    return f"{number:.0f} {units[0]}" if units[0] == "B" else f"{number:.1f} {units[0]}"


def _commit_of(folder: Path) -> str:
    """Return the commit that a folder is at; empty if it is in no repository."""
    if shutil.which("git") is None:
        return ""

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    commit, changes = git("rev-parse", "HEAD"), git("status", "--porcelain", "--", ".")
    return f"{commit}, with changes" if commit and changes else commit or ""
