"""miraserver: writes a model repository and its settings, then becomes ``lite-server serve``."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from bench.peers.told import Told, read_port, read_told


def main() -> None:
    """Write the folder that miraserver starts from, and start it."""
    told = read_told()
    folder = Path(sys.prefix, "settings")  # in its own environment, where nobody else looks
    shutil.rmtree(folder, ignore_errors=True)
    for model in told.models:
        _write_model(model, told, folder / "models" / model / "1")
    settings = {
        "server": {"host": "127.0.0.1", "http_port": read_port(), "max_inflight": told.queue},
        "grpc": {"enabled": False},
        "metrics": {"enabled": False},
        "logging": {"level": "error"},
        "features": {"alerts": False},
        "model_repository": {"path": str(folder / "models")},
        "orchestration": {"control_mode": "explicit", "load_models": list(told.models)},
    }
    path = folder / "server.yaml"
    path.write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML
    os.environ["LITESERVER_PYTHON"] = sys.executable  # for its workers
    program = str(Path(sys.executable).with_name("lite-server"))
    os.execv(program, [program, "serve", "--config", str(path)])


def _write_model(model: str, told: Told, folder: Path) -> None:
    folder.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("model.py"), folder)
    described = {
        "subject": model,
        "max_batch_size": told.batch_size,
        "batch_timeout": 0.001,
        "workers_per_device": told.runners,
        "request_timeout": told.timeout_s,
        "max_queue_size": told.queue or 1000,
    }
    (folder / "config.yaml").write_text(json.dumps(described), encoding="utf-8")


if __name__ == "__main__":
    main()
