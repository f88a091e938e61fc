"""What is measured: how each server is started, and whether it answers rightly."""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path
from typing import Any

from bench.echo import ANSWER
from bench.processes import ROOT, Server, ServerError

FAST, SLOW = "fast_iris_model", "slow_iris_model"
ALL_MODELS = (FAST, "intermediate_iris_model", SLOW)
TWO_ROWS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]
TWO_SPECIES = [0, 2]
# What the timed requests get, byte for byte: the echo's constant is the model's answer.
FAST_ANSWER = ANSWER.decode()


def body_of(model: str, rows: list[list[float]] | None = None) -> str:
    """Give a request; one row unless told otherwise."""
    return json.dumps({"model_name": model, "input_data": rows or TWO_ROWS[:1]})


def echo(logs: Path) -> Server:
    """Give the yardstick."""
    command = [sys.executable, "-m", "bench.echo"]
    return Server("echo", command, environment={}, log=logs / "echo.log")


def modelyard(logs: Path, name: str, folder: str, *, is_cached: bool) -> Server:
    """Give a gateway with one runner for each model in ``folder``."""
    command = [str(Path(sys.executable).with_name("modelyard")), "serve", str(ROOT / folder)]
    environment = {} if is_cached else {"MODELYARD_CACHE_BYTES": "0"}
    log = logs / f"{name.replace(' ', '-')}.log"
    return Server(name, command, environment=environment, log=log)


def check_answers(server: Server, *models: str) -> None:
    """See that each of ``models`` knows its flowers.

    Raises:
        ServerError: One does not, so there is nothing to measure.
    """
    for model in models:
        answer = json.loads(ask(server, body_of(model, TWO_ROWS)))
        wanted = {"model_name": model, "model_version": "1", "prediction": TWO_SPECIES}
        if answer != wanted:
            raise ServerError(f"{server.name}: {model} answers {answer} instead of {wanted}")


def check_alike(*servers: Server) -> None:
    """See that all of ``servers`` send the very same answer to the request that is timed.

    Raises:
        ServerError: One does not, so they cannot be compared.
    """
    for server in servers:
        if (answer := ask(server, body_of(FAST)).decode()) != FAST_ANSWER:
            raise ServerError(f"{server.name} answers {answer} instead of {FAST_ANSWER}")


def check_ready(server: Server) -> None:
    """See that all three models are ready.

    Raises:
        ServerError: One is not.
    """
    with urllib.request.urlopen(f"{server.url}/readyz", timeout=10) as response:
        states: dict[str, Any] = json.load(response)["models"]
    if states != {f"{model}/1": "ready" for model in ALL_MODELS}:
        raise ServerError(f"{server.name}: not all models are ready: {states}")


def ask(server: Server, body: str) -> bytes:
    """Give the answer to one request."""
    request = urllib.request.Request(
        f"{server.url}/predict", body.encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        content_type = response.headers["content-type"]
        if content_type != "application/json":
            raise ServerError(f"{server.name} answers with content-type {content_type}")
        answer: bytes = response.read()
        return answer
