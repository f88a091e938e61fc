"""``modelyard check``: all that could keep a model from being served, found without serving it.

Manifest, requirements and artefacts are looked at here. The rest is what a real runner says,
started as a pool starts it: so a model that crashes while it loads is a line of the report.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from modelyard.check.trial import load_once
from modelyard.core.artefacts import LIBRARIES, Runtime
from modelyard.core.manifest import Manifest, ManifestError
from modelyard.core.messages import Ready
from modelyard.equipment import NotEquipped
from modelyard.equipment.equipper import Equipper
from modelyard.folder import FolderError, digest_folder, is_bare, list_assets, read_manifest
from modelyard.requirements import missing_from, read_requirements

MOST_NAMED = 5  # files
State = Literal["ok", "note", "failed"]
_UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


class Finding(NamedTuple):
    """One line of the report: what was looked at, how it is, and what to do.

    ``details``: lines below it; what a model printed that does not load.
    """

    state: State
    what: str
    text: str
    details: Sequence[str] = ()


def check_model(folder: Path, equipper: Equipper) -> Iterator[Finding]:
    """Look at the model in ``folder``, one thing after the other; ends where nothing more can be
    said. Its runner is started with what ``equipper`` gives.
    """
    folder = folder.resolve()
    try:
        manifest = read_manifest(folder)
    except ManifestError as error:
        yield Finding("failed", "manifest", str(error))
        return
    kind = manifest.class_ or f"runtime {manifest.runtime}"
    yield Finding("ok", "manifest", f"{manifest.target}, {kind}")
    if not manifest.isolated and not is_bare(folder):
        yield _check_requirements(folder, manifest.runtime)
    try:
        digest = digest_folder(folder, manifest)
        yield _check_artefacts(folder, manifest)
        yield Finding("ok", "digest", digest)
    except FolderError as error:
        yield Finding("failed", "artefacts", str(error))
        return
    try:
        secrets = equipper.find_secrets(manifest)
    except NotEquipped as error:
        yield Finding("failed", "secrets", str(error))
        return
    if secrets:
        yield Finding("ok", "secrets", f"{', '.join(secrets)}: found")
    try:
        equipment = asyncio.run(equipper.equip(folder, manifest, on_step=lambda _: None))
    except NotEquipped as error:
        yield Finding("failed", "environment", str(error))
        return
    if manifest.isolated:
        yield Finding("ok", "environment", f"{equipment.python} runs it")
    started = time.monotonic()
    try:
        loaded = load_once(folder, manifest, equipment)
    finally:
        equipment.give_back()
    if isinstance(loaded.said, str):
        yield Finding("failed", "load", loaded.said, loaded.printed)
        return
    yield Finding("ok", "load", f"{time.monotonic() - started:.1f} s, with a new process")
    yield from _check_ready(loaded.said)
    yield _check_cache(manifest.cache.ttl_s, is_steady=loaded.is_steady)
    yield _check_sizes(folder, manifest, peak_bytes=loaded.peak_bytes)


def _check_requirements(folder: Path, runtime: Runtime | None) -> Finding:
    try:
        needed = read_requirements(folder)
    except FolderError as error:
        return Finding("failed", "requirements", str(error))
    if missing := missing_from(needed):
        path = os.path.relpath(folder / "requirements.txt")
        todo = f"{os.path.relpath(sys.executable)} -m pip install -r {path}"
        return Finding("failed", "requirements", f"{'; '.join(missing)}: {todo}")
    named = {requirement.name.lower() for requirement in needed}
    libraries = LIBRARIES[runtime] if runtime else ()
    if unnamed := [names[0] for names in libraries if named.isdisjoint(names)]:
        text = "an image is without it unless requirements.txt names it"
        return Finding("note", "requirements", f"{', '.join(unnamed)}: {text}")
    if needed and not (folder / "requirements.lock").exists():
        text = "installed; `modelyard build` will pin them in requirements.lock"
        return Finding("note", "requirements", f"{_count(len(needed), 'package')} {text}")
    text = f"{_count(len(needed), 'package')} installed" if needed else "none beside Modelyard"
    return Finding("ok", "requirements", text)


def _check_artefacts(folder: Path, manifest: Manifest) -> Finding:
    """Name the assets that have no digest, if others have one."""
    text = f"{_count(len(manifest.artefacts), 'file')} checked"
    paths = list_assets(folder) if manifest.artefacts else []
    if unlisted := [path for path in paths if path not in manifest.artefacts]:
        named = ", ".join(unlisted[:MOST_NAMED])
        more = len(unlisted) - MOST_NAMED
        named += f" and {more} more" if more > 0 else ""
        return Finding("note", "artefacts", f"{text}; {named}: without a digest")
    return Finding("ok", "artefacts", text)


def _check_ready(ready: Ready) -> Iterator[Finding]:
    takes, gives = (
        describe(msgspec.json.decode(schema).get("items", {}))
        for schema in (ready.input_schema, ready.output_schema)
    )
    yield Finding("ok", "contract", f"an instance: {takes}; its prediction: {gives}")
    example = msgspec.json.decode(ready.example)
    if example is None:
        text = "none; with `example = […]` in the class it is warmed up, checked and documented"
        yield Finding("note", "example", text)
    else:
        size = f"{_count(len(example), 'instance')}, {_in_units(len(ready.example))} of JSON"
        yield Finding("ok", "example", f"{size}, answered in {ready.warm_up_s:.3f} s")


def _check_cache(ttl_s: float, *, is_steady: bool | None) -> Finding:
    if not ttl_s:
        return Finding("ok", "cache", "off: the model answers every request")
    if is_steady is False:
        text = "the example's predictions differ for equal input; set [cache] ttl_s = 0"
        return Finding("note", "cache", text)
    return Finding("ok", "cache", f"an answer is kept for {ttl_s:g} s, for equal input")


def _check_sizes(folder: Path, manifest: Manifest, *, peak_bytes: int) -> Finding:
    paths = [folder] if folder.is_file() else folder.rglob("*")
    on_disk = sum(path.stat().st_size for path in paths if path.is_file())
    memory = manifest.resources.memory
    text = f"{_in_units(on_disk)} on disk; {_in_units(peak_bytes)} of memory once warm"
    if peak_bytes > int(memory[:-2]) * _UNITS[memory[-2:]]:
        todo = f'write memory = "{peak_bytes * 3 // 2 >> 20}Mi" or so under [resources]'
        return Finding("failed", "sizes", f"{text}; model.toml asks for {memory}: {todo}")
    return Finding("ok", "sizes", f"{text}, and model.toml asks for {memory}")


def describe(schema: dict[str, Any], *, is_plural: bool = False) -> str:
    """Say in a few words what a JSON Schema allows: ``lists of 3 x 4 numbers``."""
    lengths = []
    while (length := _length_of(schema)) is not None:
        lengths.append(str(length))
        schema = schema["items"]
    if lengths:
        return f"{' x '.join(lengths)} {describe(schema, is_plural=True)}"
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(describe(choice, is_plural=is_plural) for choice in schema["anyOf"])
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    kind, end = schema.get("type", "anything"), "s" if is_plural else ""
    if schema.get("contentEncoding") == "base64":
        kind, end = "bytes (base64 in JSON)", ""
    elif "prefixItems" in schema:
        kind, end = f"({', '.join(map(describe, schema['prefixItems']))})", ""
    if kind == "array" and "items" in schema:
        return f"list{end} of {describe(schema['items'], is_plural=True)}"
    return f"{kind}{end}"


def _length_of(schema: dict[str, Any]) -> int | None:
    """Return the length of an array that has one and no other."""
    length = schema.get("maxItems")
    is_exact = length is not None and length == schema.get("minItems") and schema.get("items")
    return length if is_exact else None


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _in_units(count: int) -> str:
    for unit, size in (("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
