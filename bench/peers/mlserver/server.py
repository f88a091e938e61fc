"""MLServer: writes its settings files, then becomes ``mlserver start``."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from pathlib import Path

from bench.peers.told import read_port, read_told


def main() -> None:
    """Write the folder that MLServer starts from, and start it."""
    told = read_told()
    folder = Path(sys.prefix, "settings")  # in its own environment, where nobody else looks
    shutil.rmtree(folder, ignore_errors=True)
    workers = told.runners if os.environ.get("BENCH_PARALLEL") or told.runners > 1 else 0
    settings = {
        "debug": False,
        "host": "127.0.0.1",
        "http_port": read_port(),
        "grpc_port": told.grpc_port or _free_port(),  # it cannot be switched off
        "metrics_endpoint": None,
        "parallel_workers": workers,
        "metrics_dir": str(folder / "metrics"),
        "environments_dir": str(folder / "environments"),
    }
    (folder / "metrics").mkdir(parents=True, exist_ok=True)
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    for model in told.models:
        (folder / model).mkdir(exist_ok=True)
        runtime = "Image" if model == "image" else "Subject"
        described = {
            "name": model,
            "implementation": f"bench.peers.mlserver.runtime.{runtime}",
            "max_batch_size": told.batch_size if told.batch_size > 1 else 0,
            "max_batch_time": 0.001 if told.batch_size > 1 else 0,
        }
        path = folder / model / "model-settings.json"
        path.write_text(json.dumps(described), encoding="utf-8")
    program = str(Path(sys.executable).with_name("mlserver"))
    os.execv(program, [program, "start", str(folder)])


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
