"""Commands, arguments and options of the command line, with their help."""

from __future__ import annotations

import argparse
from pathlib import Path

from modelyard import __version__
from modelyard.cli import asking, authoring, looking, serving
from modelyard.cli.batch import add_batch
from modelyard.cli.drifting import add_drift
from modelyard.cli.jobs import add_jobs
from modelyard.cli.options import Commands, add_config, add_store
from modelyard.cli.registry_parser import add_registry
from modelyard.cli.route_parser import add_routes
from modelyard.cli.store_parser import add_storing

EPILOG = """\
first steps:
  modelyard new sentiment                 write a model into models/sentiment
  modelyard check models/sentiment        see whether it can be served, and what is missing
  modelyard serve models/                 serve every model in models/
  modelyard predict sentiment '["good"]'  ask one of them
  modelyard models                        list them and their state

settings: flags, or MODELYARD_HOST, MODELYARD_PORT, MODELYARD_LOG_LEVEL, … in the environment,
or the same names in a TOML file named by --config or MODELYARD_CONFIG. `modelyard config` lists
all of them, with their values.
"""
SHELLS = ("bash", "zsh", "fish")
HANDING_ON = ("build", "test")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Return what was typed; ``rest`` is what ``build`` and ``test`` hand on: all behind ``--``."""
    rest: list[str] = []
    if arguments[:1] and arguments[0] in HANDING_ON and "--" in arguments:
        cut = arguments.index("--")
        arguments, rest = arguments[:cut], arguments[cut + 1 :]
    return make_parser().parse_args(arguments, argparse.Namespace(rest=rest))


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="modelyard",
        description="One HTTP API in front of many machine-learning models.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"modelyard {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_serving(commands)
    _add_asking(commands)
    _add_authoring(commands)
    _add_looking(commands)
    add_jobs(commands)
    add_batch(commands)
    add_storing(commands)
    add_registry(commands)
    add_routes(commands)
    add_drift(commands)
    return parser


def _add_serving(commands: Commands) -> None:
    serve = commands.add_parser(
        "serve",
        help="serve models on this machine, without a broker",
        description="Start the HTTP API and, for each model found, a process that hosts it.",
    )
    serve.add_argument(
        "folders",
        nargs="*",
        type=Path,
        default=[],
        metavar="PATH",
        help="a model's folder, one that holds models (models/), an artefact, as iris.onnx, or "
        "MODEL@VERSION, from the registry",
    )
    serve.add_argument(
        "--registry",
        metavar="URL",
        help="serve the versions that routes and aliases name in the registry of the gateway at "
        "URL, or with `store` in that of the settings; beside PATHs, if there are any",
    )
    serve.add_argument(
        "--strict",
        action="store_true",
        help="refuse to start if a model.toml is invalid; else only that model fails",
    )
    serve.add_argument(
        "--reload",
        action="store_true",
        help="serve folders that change, come or go as they are now; what cannot load changes "
        "nothing",
    )
    serve.set_defaults(run=serving.serve)

    gateway = commands.add_parser(
        "gateway",
        help="run a gateway, the HTTP side of a cluster",
        description="Answer HTTP, and send requests through RabbitMQ to the models' workers.",
    )
    gateway.set_defaults(run=serving.gateway)

    worker = commands.add_parser(
        "worker",
        help="run a worker, which serves one model in a cluster",
        description="Take one model's requests from RabbitMQ. HTTP is for health and metrics.",
    )
    worker.add_argument(
        "folder",
        type=Path,
        metavar="FOLDER",
        help="the model's folder; or MODEL@VERSION, from the registry",
    )
    worker.set_defaults(run=serving.worker)

    for command in (serve, gateway, worker):
        command.add_argument("--host", help="address to listen on (127.0.0.1)")
        command.add_argument("--port", type=int, help="port to listen on; 0: any free one (8000)")
        add_config(command)
        command.add_argument("--log-level", choices=["debug", "info", "warning", "error"])
        command.add_argument(
            "--log-format",
            choices=["auto", "json", "text"],
            help="auto (unless given): text on a terminal, json elsewhere",
        )
        command.add_argument(
            "--access-log", action="store_true", default=None, help="log a line per request"
        )
    gateway.add_argument("--redis-url", metavar="URL", help="Redis that gateways share as a cache")
    for command in (serve, gateway):
        command.add_argument(
            "--auth",
            choices=["none", "keys"],
            help="who may ask: everybody, or who sends a key (loopback: none)",
        )
        command.add_argument("--keys-file", metavar="FILE", help="keys in TOML, not in the store")
        command.add_argument("--tokens-file", metavar="FILE", help="whose tokens are taken too")
        command.add_argument(
            "--grpc-port",
            type=int,
            help="port for gRPC; 0: any free one (none: no gRPC); needs modelyard[grpc]",
        )
        command.add_argument(
            "--mcp",
            action="store_true",
            default=None,
            help="models are tools for agents, at /mcp; needs modelyard[mcp]",
        )
        command.add_argument(
            "--cors-origins",
            metavar="ORIGINS",
            help="origins allowed by CORS: https://a.example,https://b.example; * for any",
        )
    for command in (gateway, worker):
        command.add_argument("--amqp-url", metavar="URL", help="the RabbitMQ broker")


def _add_asking(commands: Commands) -> None:
    predict = commands.add_parser(
        "predict",
        help="send a prediction request",
        description="Send instances to a model and print its predictions.",
        epilog="examples: modelyard predict fast_iris_model '[[5.1, 3.5, 1.4, 0.2]]'\n"
        "          modelyard predict fast_iris_model @flowers.csv\n"
        "          modelyard example fast_iris_model | modelyard predict fast_iris_model -",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    predict.add_argument("model", metavar="MODEL")
    predict.add_argument(
        "instances",
        metavar="INSTANCES",
        help="a list of instances as JSON; - for standard input, @FILE for a file of JSON or CSV",
    )
    predict.add_argument("--timeout-s", type=float, help="timeout in seconds (the model's own)")
    predict.set_defaults(run=asking.predict)

    example = commands.add_parser(
        "example",
        help="print a model's example",
        description="Print a model's own example, as `modelyard predict` takes it.",
    )
    example.add_argument("model", metavar="MODEL")
    example.set_defaults(run=asking.example)
    for command in (predict, example):
        command.add_argument("--version", help="a model version (the default one)")

    models = commands.add_parser("models", help="list the models of a gateway and their state")
    models.add_argument("--json", action="store_true", help="print everything as JSON")
    models.set_defaults(run=asking.models)
    for command in (predict, example, models):
        command.add_argument("--url", help="URL of the gateway (http://127.0.0.1:8000)")


def _add_authoring(commands: Commands) -> None:
    new = commands.add_parser(
        "new",
        help="write a new model that serves and passes its own test",
        description="Write a model folder to start from.",
    )
    new.add_argument("name", metavar="NAME", help="lower-case letters, digits, '.', '_' and '-'")
    new.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="FILE",
        help="an artefact to serve without a class: iris.onnx, or a folder of MLflow",
    )
    new.add_argument("--into", type=Path, default=Path("models"), help="parent folder (models)")
    new.set_defaults(run=authoring.new)

    check = commands.add_parser(
        "check",
        help="see whether a model can be served, and what is missing",
        description="Load a model as `serve` would and let it answer its example, without serving.",
    )
    check.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    check.set_defaults(run=authoring.check)

    test = commands.add_parser(
        "test",
        help="run a model's own tests",
        description="Run the tests in a model's folder with pytest, whatever is around the folder.",
        epilog="Arguments after -- go to pytest: modelyard test models/sentiment -- -k words",
    )
    test.add_argument("folder", type=Path, metavar="FOLDER", help="the model's folder")
    test.set_defaults(run=authoring.test)

    build = commands.add_parser(
        "build",
        help="build a container image of a model",
        description="Build an image of a model and of the Modelyard that is installed here. "
        "It runs `modelyard worker`; `docker run IMAGE serve /opt/model` serves it alone.",
        epilog="Arguments after -- go to the builder: modelyard build models/x -- --no-cache",
    )
    build.add_argument("folder", type=Path, metavar="FOLDER", help="the model's folder")
    build.add_argument("--tag", help="tag of the image (modelyard-model-NAME:VERSION)")
    build.add_argument(
        "--builder",
        choices=["docker", "podman", "buildah"],
        help="the first that is installed and works",
    )
    build.add_argument(
        "--base", metavar="IMAGE", help="an image with Python (python:X.Y-slim, X.Y as here)"
    )
    build.add_argument("--platform", help="for example linux/arm64 (this machine's)")
    build.add_argument(
        "--dockerfile-only", action="store_true", help="print the Dockerfile and build nothing"
    )
    build.add_argument(
        "--context",
        type=Path,
        metavar="FOLDER",
        help="write all that a builder needs into a new folder, and build nothing",
    )
    build.set_defaults(run=authoring.build)


def _add_looking(commands: Commands) -> None:
    config = commands.add_parser(
        "config",
        help="show every setting, its value and where that came from",
        description="Show every setting as it applies here; passwords are masked.",
    )
    add_config(config)
    config.add_argument("--json", action="store_true", help="the same for programs")
    config.set_defaults(run=looking.config)

    doctor = commands.add_parser(
        "doctor",
        help="see what is wrong with an installation, and what to do",
        description="Look at settings, broker, Redis, database, artefacts, clocks, releases and "
        "this machine's limits, as a server would meet them here. It changes nothing, but for the "
        "exchanges, which it declares as any gateway does. Exit code 1 if something fails.",
    )
    doctor.add_argument(
        "--for",
        dest="role",
        choices=["serve", "gateway", "worker"],
        help="whose work is tried (gateway where a broker is set, else serve)",
    )
    doctor.add_argument(
        "--url",
        action="append",
        default=[],
        metavar="URL",
        help="a gateway that runs, to compare with; may be repeated",
    )
    add_store(doctor)
    doctor.add_argument("--amqp-url", metavar="URL", help="the RabbitMQ broker")
    doctor.add_argument("--redis-url", metavar="URL", help="Redis that gateways share as a cache")
    doctor.add_argument("--json", action="store_true", help="the same for programs")
    doctor.set_defaults(run=looking.doctor)

    completion = commands.add_parser(
        "completion",
        help="complete commands and options in a shell",
        description="Print a script for the shell.",
        epilog='bash: eval "$(modelyard completion bash)" in ~/.bashrc\n'
        "zsh:  modelyard completion zsh >FOLDER/_modelyard, for a FOLDER in $fpath\n"
        "fish: modelyard completion fish >~/.config/fish/completions/modelyard.fish",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    completion.add_argument("shell", choices=SHELLS)
    completion.set_defaults(run=looking.completion)
