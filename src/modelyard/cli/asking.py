"""``predict``, ``example`` and ``models``: commands that ask a gateway."""

from __future__ import annotations

import argparse
import json
from typing import Any

from modelyard.cli.call import call
from modelyard.cli.instances import read_instances
from modelyard.cli.mistakes import UsageError, warn
from modelyard.cli.table import table_of
from modelyard.settings import ignored_variables, load_settings


def predict(options: argparse.Namespace) -> None:
    """Send instances to a model and print its predictions."""
    url = _url(options)
    instances = read_instances(options.instances, schema=lambda: _input_schema(options, url))
    if isinstance(instances, bytes):
        print(json.dumps(_send_file(options, url, instances)))
        return
    body = {"model_name": options.model, "input_data": instances}
    if options.version is not None:
        body["model_version"] = options.version
    if options.timeout_s is not None:
        body["timeout_s"] = options.timeout_s
    print(json.dumps(call(url, "/predict", field="prediction", body=body)))


def _send_file(options: argparse.Namespace, url: str, file: bytes) -> Any:
    """Return the predictions for a file, which the model's own address takes as it is."""
    from urllib.parse import quote, urlencode

    path = f"/models/{quote(options.model, safe='')}"
    if options.version is not None:
        path += f"/versions/{quote(options.version, safe='')}"
    query = "" if options.timeout_s is None else f"?{urlencode({'timeout_s': options.timeout_s})}"
    return call(url, f"{path}/predict{query}", field="prediction", body=file)


def example(options: argparse.Namespace) -> None:
    """Print instances that the model answers."""
    given = _version_of(options, _url(options))["example"]
    if given is None:
        raise UsageError(f"{options.model} has no example; write one: `example = …` in its class")
    print(json.dumps(given))


def models(options: argparse.Namespace) -> None:
    """Print all models and their state."""
    found = call(_url(options), "/models", field="models")
    print(json.dumps(found, indent=2) if options.json else "\n".join(table_of(found)))


def _input_schema(options: argparse.Namespace, url: str) -> dict[str, Any]:
    version = _version_of(options, url)
    if version["input_schema"] is None:
        raise UsageError(
            f"{options.model} is {version['state']} and has not said what it takes, which CSV needs"
        )
    schema: dict[str, Any] = version["input_schema"]
    return schema


def _version_of(options: argparse.Namespace, url: str) -> dict[str, Any]:
    """Return what the gateway tells of the version that is meant."""
    from urllib.parse import quote

    versions: list[dict[str, Any]] = call(
        url, f"/models/{quote(options.model, safe='')}", field="versions"
    )
    for version in versions:
        is_meant = version["version"] == options.version or (
            options.version is None and version["is_default"]
        )
        if is_meant:
            return version
    raise UsageError(f"{options.model} has no version {options.version}")


def _url(options: argparse.Namespace) -> str:
    if options.url:
        return str(options.url)
    for sentence in ignored_variables():
        warn(sentence)
    settings = load_settings({})
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104
    return f"http://{host}:{settings.port}"
