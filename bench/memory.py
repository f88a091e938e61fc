"""Resident memory of the gateway, and of a runner beside what its model needs in any case."""

from __future__ import annotations

import subprocess
import sys

import psutil

from bench.processes import ROOT, Server, ServerError, clean_environment
from bench.rows import Limit, Row, row
from bench.subjects import FAST

MIB = 1024 * 1024
GATEWAY, RUNNER = "modelyard: gateway", f"modelyard: runner {FAST} 1"

# What the model imports and loads, and one batch of the greatest size that the load can bring.
_MODEL_ALONE = """\
import sys
import numpy as np
import onnxruntime as ort
options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
session.run(["label"], {"X": np.array([[5.1, 3.5, 1.4, 0.2]] * 64, dtype=np.float32)})[0].tolist()
print("loaded", flush=True)
sys.stdin.read()
"""


def measure_memory(echo: Server, cache_off: Server, all_cached: Server) -> list[Row]:
    """Look at servers that have just been under load."""
    form = "{:.1f} MiB"
    runner, alone = _resident(_find(cache_off, RUNNER)), _model_alone()
    return [
        row(
            f"memory: gateway after the load, {server.name}",
            [_resident(_find(server, GATEWAY))],
            form,
            Limit("<", 80),
        )
        for server in (cache_off, all_cached)
    ] + [
        row("memory: runner's own share", [runner - alone], form, Limit("<", 30)),
        row("memory: runner, whole", [runner], form),
        row("memory: model alone in plain Python", [alone], form),
        row("memory: echo after the load", [_resident(echo.tree()[0])], form),
    ]


def _find(server: Server, title: str) -> psutil.Process:
    process = server.find(title)
    if process is None:
        raise ServerError(f"{server.name} has no process called {title!r}")
    return process


def _resident(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / MIB


def _model_alone() -> float:
    # A runner has as many numeric threads as its model.toml says: one.
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    artefact = ROOT / "models" / FAST / "assets" / "iris.onnx"
    with subprocess.Popen(
        [sys.executable, "-c", _MODEL_ALONE, str(artefact)],
        env=clean_environment() | threads,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:  # leaving the block closes its standard input, and so ends it
        if process.stdout is None or process.stdout.readline() != "loaded\n":
            raise ServerError("the model does not load in plain Python")
        return _resident(psutil.Process(process.pid))
