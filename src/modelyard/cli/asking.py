"""``predict``, ``example`` and ``models``: commands that ask a gateway."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from modelyard.cli.call import gateway_at
from modelyard.cli.instances import read_instances
from modelyard.cli.mistakes import UsageError, warn
from modelyard.cli.table import table_of
from modelyard.settings import load_settings
from modelyard.settings_shown import ignored_variables

if TYPE_CHECKING:
    from modelyard.client import VersionDetails


def predict(options: argparse.Namespace) -> None:
    """Send instances to a model and print its predictions."""
    url = gateway_url(options)
    instances = read_instances(options.instances, schema=lambda: _input_schema(options, url))
    if isinstance(instances, bytes):
        instances = [instances]  # a file that is no text is one instance
    with gateway_at(url) as client:
        predictions = client.predict(
            options.model, instances, version=options.version, timeout_s=options.timeout_s
        )
    print(json.dumps(_plain(predictions)))


def example(options: argparse.Namespace) -> None:
    """Print instances that the model answers."""
    version = _version_of(options, gateway_url(options))
    given = version.example
    if given is None and version.input_schema is None:
        why = f": {version.reason}" if version.reason else ""
        raise UsageError(f"{options.model} is {version.state}, and tells no example{why}")
    if given is None:
        raise UsageError(f"{options.model} has no example; write one: `example = …` in its class")
    print(json.dumps(given))


def models(options: argparse.Namespace) -> None:
    """Print all models and their state."""
    with gateway_at(gateway_url(options)) as client:
        found = client.models()
    print(json.dumps(_plain(found), indent=2) if options.json else "\n".join(table_of(found)))


def _plain(value: Any) -> Any:
    """Return what JSON can say: structs as objects, and as a gateway would, bytes as base64. An
    array, which comes if files or a NaN were sent, is nested lists.
    """
    import msgspec

    return msgspec.to_builtins(value, enc_hook=lambda array: array.tolist())


def _input_schema(options: argparse.Namespace, url: str) -> dict[str, Any]:
    version = _version_of(options, url)
    if version.input_schema is None:
        raise UsageError(
            f"{options.model} is {version.state} and has not said what it takes, which CSV needs"
        )
    return version.input_schema


def _version_of(options: argparse.Namespace, url: str) -> VersionDetails:
    """Return what the gateway tells of the version that is meant."""
    with gateway_at(url) as client:
        model = client.model(options.model)
    for version in model.versions:
        is_meant = version.version == options.version or (
            options.version is None and version.is_default
        )
        if is_meant:
            return version
    raise UsageError(f"{options.model} has no version {options.version}")


def gateway_url(options: argparse.Namespace) -> str:
    """Return the URL of the gateway that a command asks: ``--url``, or that of the settings."""
    if options.url:
        return str(options.url)
    for sentence in ignored_variables():
        warn(sentence)
    settings = load_settings({})
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104
    return f"http://{host}:{settings.port}"
