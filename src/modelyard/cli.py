"""The command line. A user's mistake ends in one line and exit code 2, never in a traceback."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from modelyard import __version__
from modelyard.client import CallError, call, list_models
from modelyard.core.manifest import Manifest, ManifestError
from modelyard.folder import FolderError, find_models, read_manifest
from modelyard.scaffold import ScaffoldError, write_model
from modelyard.settings import Settings, SettingsError, load_settings

USAGE_ERROR = 2

EPILOG = """\
first steps:
  modelyard new sentiment                write a model into models/sentiment
  modelyard serve models/                serve every model in models/
  modelyard predict sentiment '["good"]' ask one of them
  modelyard models                       see which are there, and how they are

settings: flags, or MODELYARD_HOST, MODELYARD_PORT, MODELYARD_LOG_LEVEL, … in the environment,
or the same names in a TOML file named by --config or MODELYARD_CONFIG.
"""


class UsageError(Exception):
    """Something the user can mend; the text says what."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line (console script ``modelyard``)."""
    options = _parser().parse_args(arguments)
    mistakes = (
        *(UsageError, FolderError, ManifestError, SettingsError),
        *(ScaffoldError, CallError),
    )
    try:
        options.run(options)
    except mistakes as error:
        sys.exit(_complain(str(error)))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)  # as a shell counts it
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(text: str) -> int:
    print(f"modelyard: {text}", file=sys.stderr)
    return USAGE_ERROR


def _serve(options: argparse.Namespace) -> None:
    settings = load_settings(vars(options))
    models = _read_models(options.folders)
    # Only now what serving needs: the other commands should not wait for it.
    from modelyard.display import make_display
    from modelyard.serve import serve_embedded

    serve_embedded(settings, models, _listen(settings), display=make_display)


def _gateway(options: argparse.Namespace) -> None:
    settings = load_settings(vars(options))
    from modelyard.serve import serve_gateway

    serve_gateway(settings, _listen(settings))


def _worker(options: argparse.Namespace) -> None:
    settings = load_settings(vars(options))
    models = _read_models([options.folder])
    if len(models) != 1:
        raise UsageError(f"{options.folder} holds {len(models)} models; a worker serves one")
    from modelyard.serve import serve_worker

    serve_worker(settings, *models[0], _listen(settings))


def _listen(settings: Settings) -> socket.socket:
    from modelyard.serve import listen

    try:
        return listen(settings)
    except OSError as error:
        text = error.strerror or str(error)
        raise UsageError(
            f"cannot listen on {settings.host}:{settings.port}: {text}; choose another --port"
        ) from error


def _read_models(folders: list[Path]) -> list[tuple[Path, Manifest]]:
    models = [(folder, read_manifest(folder)) for folder in find_models(folders)]
    seen: dict[Any, Path] = {}
    for folder, manifest in models:
        other = seen.setdefault(manifest.target, folder)
        if other is not folder:
            raise UsageError(f"{folder} and {other} are both {manifest.target}; change one version")
    return models


def _predict(options: argparse.Namespace) -> None:
    try:
        instances = json.loads(sys.stdin.read() if options.json == "-" else options.json)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the input is not JSON: {error}") from error
    body = {"model_name": options.model, "input_data": instances}
    if options.version is not None:
        body["model_version"] = options.version
    if options.timeout_s is not None:
        body["timeout_s"] = options.timeout_s
    print(json.dumps(call(_url(options), "/predict", field="prediction", body=body)))


def _models(options: argparse.Namespace) -> None:
    print("\n".join(list_models(_url(options))))


def _new(options: argparse.Namespace) -> None:
    folder = write_model(options.name, options.into)
    print(
        f"wrote {folder}: model.toml, src/model.py, assets/, requirements.txt, tests/\n"
        f"next:  pytest {folder}\n"
        f"       modelyard serve {folder}\n"
        f"       modelyard predict {options.name} '[\"a great film\"]'"
    )


def _url(options: argparse.Namespace) -> str:
    if options.url:
        return str(options.url)
    settings: Settings = load_settings({})
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104
    return f"http://{host}:{settings.port}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="modelyard",
        description="One HTTP API in front of many machine-learning models.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"modelyard {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    serve = commands.add_parser(
        "serve",
        help="serve models on this machine, with nothing to install beside",
        description="Start the HTTP API and, for each model found, a process that hosts it.",
    )
    serve.add_argument(
        "folders",
        nargs="*",
        type=Path,
        default=[Path("models")],
        metavar="FOLDER",
        help="a model's folder, or one that holds models (models/)",
    )
    serve.set_defaults(run=_serve)

    gateway = commands.add_parser(
        "gateway",
        help="be the HTTP side of a cluster",
        description="Answer HTTP, and send requests through RabbitMQ to the models' workers.",
    )
    gateway.set_defaults(run=_gateway)

    worker = commands.add_parser(
        "worker",
        help="serve one model of a cluster",
        description="Take one model's requests from RabbitMQ. HTTP is for health and metrics.",
    )
    worker.add_argument("folder", type=Path, metavar="FOLDER", help="the model's folder")
    worker.set_defaults(run=_worker)

    for command in (serve, gateway, worker):
        command.add_argument("--host", help="address to listen on (127.0.0.1)")
        command.add_argument("--port", type=int, help="port to listen on; 0: any free one (8000)")
        command.add_argument("--config", metavar="FILE", help="a TOML file of settings")
        command.add_argument("--log-level", choices=["debug", "info", "warning", "error"])
        command.add_argument("--log-format", choices=["json", "text"])
        command.add_argument(
            "--access-log", action="store_true", default=None, help="log a line per request"
        )
    gateway.add_argument("--redis-url", metavar="URL", help="of a cache that gateways share")
    for command in (gateway, worker):
        command.add_argument("--amqp-url", metavar="URL", help="of the RabbitMQ broker")

    predict = commands.add_parser(
        "predict",
        help="ask a model",
        description="Send instances to a model and print its predictions.",
        epilog="example: modelyard predict fast_iris_model '[[5.1, 3.5, 1.4, 0.2]]'",
    )
    predict.add_argument("model", metavar="MODEL")
    predict.add_argument("json", metavar="JSON", help="a list of instances; - for standard input")
    predict.add_argument("--version", help="a model version (the default one)")
    predict.add_argument("--timeout-s", type=float, help="seconds to wait (the model's own)")
    predict.set_defaults(run=_predict)

    models = commands.add_parser("models", help="list the models of a gateway and their state")
    models.set_defaults(run=_models)
    for command in (predict, models):
        command.add_argument("--url", help="of the gateway (http://127.0.0.1:8000)")

    new = commands.add_parser(
        "new",
        help="write a new model that serves and passes its own test",
        description="Write a model folder to start from.",
    )
    new.add_argument("name", metavar="NAME", help="lower-case letters, digits, '.', '_' and '-'")
    new.add_argument("--into", type=Path, default=Path("models"), help="parent folder (models)")
    new.set_defaults(run=_new)
    return parser
