"""The bare ASGI echo among the systems: what HTTP alone costs on the gateway's own server."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from bench.echo import ANSWER
from bench.peers.system import ENVIRONMENT, Call, Program, Running
from bench.peers.told import Told


class Echo:
    """Answers always alike, so nothing but speed can be asked of it."""

    name, title = "echo", "bare ASGI echo"
    forms: Sequence[str] = ("json",)
    v2: Sequence[str] = ()
    has_batching = False

    def missing(self) -> str:
        return ""

    def joins(self, scenario: str) -> bool:
        return scenario == "small"

    def start(self, told: Told, logs: Path) -> AbstractContextManager[Running]:
        return Program(
            self.name,
            [sys.executable, "-m", "bench.echo"],
            environment=ENVIRONMENT,
            log=logs / "echo.log",
            is_ready=_echoes,
        )

    def call(self, model: str, instance: Any, form: str = "json") -> Call:
        body = json.dumps({"model_name": model, "input_data": [instance]}).encode()
        return Call("/predict", body, json.loads)


def _echoes(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/predict", b"{}", timeout=5) as response:
            return bool(response.read() == ANSWER)
    except OSError:
        return False
