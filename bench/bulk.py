"""``python -m bench.bulk``: bulk runs, beside the model's own ``predict`` in a loop over the same
batches, and what a caller who waits beside them notices.

Rows of iris flowers, in CSV, embedded and through RabbitMQ, and fewer of them for a model that
waits 20 ms a batch. The loop is measured before and after each run: on a busy machine it takes
longer too. The exit code is 1 if a run is less than half as fast as the loop embedded, less than
0.3 times as fast in a cluster, or less than 0.95 times as fast as the model that waits; or if the
99th percentile of a caller beside that is more than two batches above what it is without.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from random import Random
from typing import Self

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
WAITING_S = 0.02
MOST_BATCHES = 2.0
ALONE_S = 5.0
PAUSE_S = 0.02
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
        rows, few = folder / "iris.csv", folder / "few.csv"
        _write_iris(rows, count)
        _write_iris(few, count // 20)
        waiting = _waiting_model(folder)
        settings = {
            "MODELYARD_STATE_FOLDER": str(folder / "state"),
            "MODELYARD_MAX_BULK_MB": "4000",
        }
        _upgrade(settings)
        with Server(FAST, waiting, settings=settings) as server:
            _wait_ready(server)
            process = psutil.Process(server.process.pid)
            before = process.memory_info().rss
            yield from _compare("embedded", server, FAST, rows, LEAST["embedded"])
            grown = (process.memory_info().rss - before) / 1e6
            yield row("embedded: growth of the server's memory", [grown], "{:.0f} MB")
            yield from _beside("iris", server, FAST, rows)
            yield from _compare("a model of 20 ms", server, waiting, few, LEAST_OF_WAITING)
            yield from _beside("a model of 20 ms", server, waiting, few, most=MOST_BATCHES)
        broker = stack.enter_context(Broker(folder / "broker"))
        settings |= {"MODELYARD_AMQP_URL": broker.url}
        gateway = stack.enter_context(Member("gateway", settings=settings))
        worker = stack.enter_context(Member("worker", FAST, settings=settings))
        _wait_ready(worker)
        wait_until(lambda: gateway.http.get("/models/fast_iris_model").is_success, what="the model")
        yield from _compare("cluster", gateway, FAST, rows, LEAST["cluster"])


def _compare(what: str, server: Member, model: Path, rows: Path, least: float) -> Iterator[Row]:
    """Compare a run with the loop, before it and after it."""
    own_s, count = [_loop(model, rows)], rows.read_bytes().count(b"\n") - 1
    run_s, model_s = _run(server, model.name, rows)
    own_s.append(_loop(model, rows))
    loops = " and ".join(f"{one:.2f} s" for one in own_s)
    load = os.getloadavg()[0]
    tell(f"{what}: {count:,} rows in {run_s:.2f} s, the loop in {loops}, at load {load:.0f}")
    yield row(f"{what}: rows per second", [count / run_s], "{:,.0f}")
    title = f"{what}: rate / predict in a loop, {count:,} rows"
    yield row(title, [one / run_s for one in own_s], "{:.2f}", Limit("≥", least))
    yield row(f"{what}: share of the run in predict", [model_s / run_s], "{:.2f}")


def _beside(
    what: str, server: Member, model: Path, rows: Path, *, most: float | None = None
) -> Iterator[Row]:
    """Ask for single rows, without a run and beside one."""
    with _Caller(server, model.name) as alone:
        time.sleep(ALONE_S)
    with _Caller(server, model.name) as beside:
        _run(server, model.name, rows)
    for share in (50, 99):
        alone_s, beside_s = alone.percentile(share), beside.percentile(share)
        told = f"{what}: {share} % of a caller's requests take at most, ms"
        yield row(f"{told}, alone", [alone_s * 1000], "{:.1f}")
        yield row(f"{told}, beside a run", [beside_s * 1000], "{:.1f}")
        if most is not None:
            title = f"{what}: the difference at {share} %, in batches"
            yield row(title, [(beside_s - alone_s) / WAITING_S], "{:.1f}", Limit("≤", most))


class _Caller:
    """Asks for one row again and again, as long as the ``with`` block."""

    def __init__(self, server: Member, model: str) -> None:
        self._server = server
        self._asked = {"model_name": model, "input_data": [[5.1, 3.5, 1.4, 0.2]]}
        self._seconds: list[float] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def percentile(self, share: int) -> float:
        """Return in how many seconds so many of a hundred were answered."""
        return sorted(self._seconds)[len(self._seconds) * share // 100]

    def _ask(self) -> None:
        with httpx.Client(base_url=self._server.url, timeout=60) as http:
            while not self._is_over.wait(PAUSE_S):
                began = time.perf_counter()
                http.post("/predict", json=self._asked).raise_for_status()
                self._seconds.append(time.perf_counter() - began)


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
    text = code.read_text().replace(f"WAIT_S = {WAIT_S}", f"WAIT_S = {WAITING_S}")
    code.write_text(text.replace("list[int]", "list[list[float]]").replace("[1]", "[[1.0]]", 1))
    return copy


def _loop(model: Path, rows: Path) -> float:
    """Return how long the model's own ``predict`` takes for all rows, in this process."""
    hosted = HostedModel.open(model)
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


def _run(server: Member, model: str, rows: Path) -> tuple[float, float]:
    """Send a file; return how long its run took, from its start to its end, and the model in it."""
    with rows.open("rb") as file:
        asked = {"model": model, "format": "csv", "output_format": "jsonl"}
        answer = server.http.post("/batches", params=asked, content=file, timeout=PATIENCE_S)
    answer.raise_for_status()
    address, give_up = f"/batches/{answer.json()['id']}", time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up:
        found: httpx.Response = server.http.get(address, params={"wait": 30}, timeout=60)
        if (run := found.json()).get("finished"):
            assert (run["state"], run["rows"]["failed"]) == ("succeeded", 0), run
            return float(run["finished"] - run["started"]), float(run["cost"]["model_s"])
    raise TimeoutError(address)


if __name__ == "__main__":
    sys.exit(main())
