"""``serve``, ``gateway`` and ``worker``: from what was typed to ``modelyard.serve``."""

from __future__ import annotations

import argparse
import contextlib
import socket
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from modelyard.cli.mistakes import UsageError, warn
from modelyard.cli.storing import need_store, user
from modelyard.compose.circles import set_aside_circles
from modelyard.core.manifest import Manifest, ManifestError
from modelyard.core.names import is_loopback
from modelyard.core.references import parse_reference
from modelyard.folder import (
    FolderError,
    Unusable,
    find_models,
    read_manifests,
    set_aside_copies,
)
from modelyard.settings import Settings, load_settings
from modelyard.settings_shown import ignored_variables

if TYPE_CHECKING:
    from modelyard.compose.registry import NamedIn

_GRPC = ("grpc", "grpc_health", "grpc_reflection")

# What serving needs is imported only where something is served.


def serve(options: argparse.Namespace) -> None:
    """Serve models on this machine."""
    settings = _settings(options)
    _check_auth(settings)
    named_in = None if options.registry is None else _registry_at(options.registry, settings)
    typed = options.folders or ([Path("models")] if named_in is None else [])
    with _folders_of(typed, settings) as folders:
        models, bad = _scan(folders) if folders else ([], [])
        if bad and (options.strict or not (models or named_in)):
            raise _last_of(bad)
        from modelyard.display import make_display
        from modelyard.serve import serve_embedded

        serve_embedded(
            settings,
            models,
            _listen(settings),
            display=make_display,
            scan=partial(_scan_again, folders),
            bad=bad,
            is_watching=options.reload,
            named_in=named_in,
        )


def _registry_at(place: str, settings: Settings) -> NamedIn:
    from modelyard.compose.registry import STORE, follow_registry

    if place == STORE:
        need_store()
    return follow_registry(settings, place, actor=user())


def gateway(options: argparse.Namespace) -> None:
    """Run a gateway."""
    settings = _settings(options)
    _check_auth(settings)
    from modelyard.serve import serve_gateway

    serve_gateway(settings, _listen(settings))


def worker(options: argparse.Namespace) -> None:
    """Run a worker."""
    settings = _settings(options)
    with _folders_of([options.folder], settings) as folders:
        models, bad = _scan(folders)
        if bad:
            raise _last_of(bad)
        if len(models) != 1:
            raise UsageError(f"{options.folder} holds {len(models)} models; a worker serves one")
        from modelyard.serve import serve_worker

        serve_worker(settings, *models[0], _listen(settings))


def _settings(options: argparse.Namespace) -> Settings:
    for sentence in ignored_variables():
        warn(sentence)
    settings = load_settings(vars(options))
    if settings.grpc_port is not None and not all(map(find_spec, _GRPC)):
        raise UsageError("gRPC needs libraries that are not here: pip install 'modelyard[grpc]'")
    if settings.mcp and find_spec("mcp") is None:
        raise UsageError("MCP needs a library that is not here: pip install 'modelyard[mcp]'")
    return settings


def _check_auth(settings: Settings) -> None:
    """Refuse to serve strangers unless somebody has decided so."""
    if settings.auth == "" and not is_loopback(settings.host):
        raise UsageError(
            f"{settings.host} can be reached from other machines, and nothing says who may ask. "
            "One of these: --auth keys, with a key from `modelyard keys create`; --auth none, for "
            "everybody; --host 127.0.0.1, for this machine alone"
        )
    if settings.auth != "keys":
        if settings.keys_file or settings.tokens_file:
            raise UsageError("keys_file and tokens_file are of use with --auth keys alone")
        return
    if settings.tokens_file and find_spec("jwt") is None:
        raise UsageError("tokens need a library that is not here: pip install 'modelyard[tokens]'")
    if settings.keeps_keys_in_store:
        need_store()


@contextlib.contextmanager
def _folders_of(typed: list[Path], settings: Settings) -> Iterator[list[Path]]:
    """Give the folders that were named; what the registry has is fetched, and stays meanwhile."""
    named = [(path, parse_reference(str(path))) for path in typed]
    given = [(path, None if found and path.exists() else found) for path, found in named]
    references = [reference for _, reference in given if reference is not None]
    if not references:
        yield typed
        return
    from modelyard.compose.fetching import fetched

    with fetched(settings, references, actor=user()) as found:
        for reference, (target, digest, _) in zip(references, found, strict=True):
            resolved = "" if reference.version == target.version else f"{reference} is "
            warn(f"{resolved}{target.name}@{target.version} {digest}")
        folders = [path for path, reference in given if reference is None]
        yield [*folders, *(one.folder for one in found)]


def _scan(folders: list[Path]) -> tuple[list[tuple[Path, Manifest]], list[Unusable]]:
    found, bad = read_manifests(find_models(folders))
    models, copies = set_aside_copies(found)
    models, circling = set_aside_circles(models)
    return models, [*bad, *copies, *circling]


def _scan_again(folders: list[Path]) -> tuple[list[tuple[Path, Manifest]], list[Unusable]]:
    """Return the models that there are now: that a folder has been emptied is no mistake."""
    found: list[Path] = []
    for folder in folders:
        with contextlib.suppress(FolderError):
            found += find_models([folder])
    return read_manifests(list(dict.fromkeys(found)))


def _last_of(bad: list[Unusable]) -> ManifestError:
    """Say what is wrong with each but the last; return the error of that one."""
    for one in bad[:-1]:
        warn(str(one.error))
    return bad[-1].error


def _listen(settings: Settings) -> socket.socket:
    """Return the socket for HTTP. The port for gRPC, which binds its own, is seen to be free."""
    listener = _bind(settings.host, settings.port, flag="--port")
    if settings.grpc_port:
        _bind(settings.host, settings.grpc_port, flag="--grpc-port").close()
    return listener


def _bind(host: str, port: int, *, flag: str) -> socket.socket:
    from modelyard.serve import listen

    try:
        return listen(host, port)
    except OSError as error:
        text = error.strerror or str(error)
        raise UsageError(
            f"cannot listen on {host}:{port}: {text}; choose another {flag}"
        ) from error
