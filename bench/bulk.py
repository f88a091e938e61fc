"""``python -m bench.bulk``: bulk runs, beside the model's own ``predict`` in a loop over the same
batches.

Rows of iris flowers, in CSV, embedded and through RabbitMQ, and fewer of them for a model that
waits 20 ms a batch. The exit code is 1 if a run is less than half as fast as the loop embedded,
less than 0.3 times as fast in a cluster, or less than 0.95 times as fast as the model that waits.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from random import Random

import httpx
import psutil

from bench.cluster import WAIT_S, WAITING
from bench.processes import ROOT
from bench.report import report
from bench.rows import Limit, Row, row, tell
from modelyard.runner.host import HostedModel
from tests.support.broker import Broker
from tests.support.server import MODELYARD, Member, Server, wait_until

FAST = ROOT / "models" / "fast_iris_model"
BATCH = 64
LEAST = {"embedded": 0.5, "cluster": 0.3}
LEAST_OF_WAITING = 0.95
PATIENCE_S = 1800


def main() -> int:
    """Measure; give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.bulk")
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    return report(lambda: _measure(options.rows))


def _measure(count: int) -> Iterator[Row]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        rows = folder / "iris.csv"
        _write_iris(rows, count)
        waiting = _waiting_model(folder)
        own_s, waited_s = _loop(rows), count / 20 / BATCH * 0.02
        tell(f"{count:,} rows: predict in a loop takes {own_s:.1f} s")
        settings = {
            "MODELYARD_STATE_FOLDER": str(folder / "state"),
            "MODELYARD_MAX_BULK_MB": "4000",
        }
        _upgrade(settings)
        with Server(FAST, waiting, settings=settings) as server:
            _wait_ready(server)
            process = psutil.Process(server.process.pid)
            before = process.memory_info().rss
            run_s = _run(server, "fast_iris_model", rows)
            yield row("embedded: rows per second", [count / run_s], "{:,.0f}")
            yield row(
                f"embedded: rate / predict in a loop, {count:,} rows",
                [own_s / run_s],
                "{:.2f}",
                Limit("≥", LEAST["embedded"]),
            )
            grown = (process.memory_info().rss - before) / 1e6
            yield row("embedded: growth of the server's memory", [grown], "{:.0f} MB")
            few = folder / "few.csv"
            _write_iris(few, count // 20)
            run_s = _run(server, "waiting_model", few)
            yield row(
                f"a model of 20 ms a batch: rate / its own, {count // 20:,} rows",
                [waited_s / run_s],
                "{:.2f}",
                Limit("≥", LEAST_OF_WAITING),
            )
        broker = stack.enter_context(Broker(folder / "broker"))
        settings |= {"MODELYARD_AMQP_URL": broker.url}
        gateway = stack.enter_context(Member("gateway", settings=settings))
        worker = stack.enter_context(Member("worker", FAST, settings=settings))
        _wait_ready(worker)
        wait_until(lambda: gateway.http.get("/models/fast_iris_model").is_success, what="the model")
        run_s = _run(gateway, "fast_iris_model", rows)
        yield row(
            f"cluster: rate / predict in a loop, {count:,} rows",
            [own_s / run_s],
            "{:.2f}",
            Limit("≥", LEAST["cluster"]),
        )


def _write_iris(path: Path, count: int) -> None:
    chance = Random(1)
    with path.open("w") as file:
        file.write("sepal_length,sepal_width,petal_length,petal_width\n")
        for _ in range(count):
            file.write(",".join(f"{chance.uniform(0.1, 8):.1f}" for _ in range(4)) + "\n")


def _waiting_model(folder: Path) -> Path:
    """Give the model that waits, for batches of rows."""
    copy = shutil.copytree(ROOT / WAITING, folder / "waiting_model")
    manifest, code = copy / "model.toml", copy / "src" / "model.py"
    manifest.write_text(manifest.read_text().replace("batch_size = 1 ", f"batch_size = {BATCH} "))
    text = code.read_text().replace(f"WAIT_S = {WAIT_S}", "WAIT_S = 0.02")
    code.write_text(text.replace("list[int]", "list[list[float]]").replace("[1]", "[[1.0]]", 1))
    return copy


def _loop(rows: Path) -> float:
    """Return how long the model's own ``predict`` takes for all rows, in this process."""
    hosted = HostedModel.open(FAST)
    predict, taken = hosted._model.predict, 0.0
    with rows.open() as file:
        next(file)
        lines = ([float(cell) for cell in line.split(",")] for line in file)
        while batch := list(islice(lines, BATCH)):
            began = time.perf_counter()
            predict(batch)
            taken += time.perf_counter() - began
    return taken


def _upgrade(settings: dict[str, str]) -> None:
    environment = os.environ | settings
    subprocess.run([MODELYARD, "store", "upgrade"], env=environment, check=True)


def _wait_ready(member: Member) -> None:
    wait_until(lambda: member.http.get("/readyz").status_code == 200, what="readiness")


def _run(server: Member, model: str, rows: Path) -> float:
    """Send a file, and return how long its run took, from its start to its end."""
    with rows.open("rb") as file:
        asked = {"model": model, "format": "csv", "output_format": "jsonl"}
        answer = server.http.post("/batches", params=asked, content=file, timeout=PATIENCE_S)
    answer.raise_for_status()
    address, give_up = f"/batches/{answer.json()['id']}", time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up:
        found: httpx.Response = server.http.get(address, params={"wait": 30}, timeout=60)
        if (run := found.json()).get("finished"):
            assert (run["state"], run["rows"]["failed"]) == ("succeeded", 0), run
            return float(run["finished"] - run["started"])
    raise TimeoutError(address)


if __name__ == "__main__":
    sys.exit(main())
