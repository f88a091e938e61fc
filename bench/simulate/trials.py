"""The product under open-loop arrivals: requests leave when they are due, answered or not."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from bench.processes import Server
from bench.rows import tell
from bench.simulate.arrivals import Times, constant
from bench.simulate.cluster import Cluster, metric, modelyard
from bench.simulate.data import Trial

FOLDER = Path(__file__).with_name("waiting_model")
WAIT_S = 0.05
SEED = 5
# Shape, workers, max_batch_size, load as a share of what the runners do one by one.
CASES = (
    ("serve", 1, 1, 0.5),
    ("serve", 1, 1, 0.8),
    ("serve", 1, 8, 2.0),
    ("cluster", 3, 1, 0.5),
    ("cluster", 3, 1, 0.8),
)


def run_trials(logs: Path, requests: int = 1000) -> list[Trial]:
    """Run all cases, one after the other."""
    trials = []
    for shape, workers, size, load in CASES:
        tell(f"open loop: {shape}, {workers} runners, batches of {size}, load {load:.0%}")
        rate = load * workers / WAIT_S
        times = constant(rate, length_s=requests / rate, seed=SEED)
        with _folder(size) as folder, ExitStack() as stack:
            front, pools = _start(stack, shape, workers, folder, logs)
            latencies, failures = asyncio.run(_drive(front.url, times))
            seconds, batches = (
                sum(metric(pool, f"model_seconds_{part}", FOLDER.name) for pool in pools)
                for part in ("sum", "count")
            )
        trials.append(
            Trial(
                shape=shape,
                workers=workers,
                max_batch_size=size,
                rate=rate,
                requests=requests,
                seed=SEED,
                failures=failures,
                predict_s=round(seconds / batches, 5),
                mean_s=round(float(latencies.mean()), 5),
                p50_s=round(float(np.quantile(latencies, 0.5)), 5),
                p99_s=round(float(np.quantile(latencies, 0.99)), 5),
            )
        )
    return trials


def _start(
    stack: ExitStack, shape: str, workers: int, folder: Path, logs: Path
) -> tuple[Server, list[Server]]:
    """Start the product; gives the server to ask, and those that have the pools."""
    if shape == "cluster":
        cluster = stack.enter_context(Cluster(folder, logs, workers=workers))
        return cluster.gateway, cluster.workers
    command = modelyard("serve", str(folder))
    environment = {"MODELYARD_CACHE_BYTES": "0"}
    server = Server("serve", command, environment=environment, log=logs / "trial.log")
    stack.enter_context(server)
    return server, [server]


@contextmanager
def _folder(max_batch_size: int) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as parent:
        folder = shutil.copytree(FOLDER, Path(parent, FOLDER.name))
        manifest = folder / "model.toml"
        text = manifest.read_text(encoding="utf-8")
        changed = text.replace("max_batch_size = 1 ", f"max_batch_size = {max_batch_size} ")
        manifest.write_text(changed, encoding="utf-8")
        yield folder


async def _drive(url: str, times: Times) -> tuple[Times, int]:
    """Send a request at each of ``times``; give what each took since it was due, and failures."""
    start = time.monotonic() + 0.5
    asked = [asyncio.create_task(_ask(url, start + due)) for due in times.tolist()]
    answers = await asyncio.gather(*asked)
    return np.array([latency for latency, _ in answers]), sum(not ok for _, ok in answers)


async def _ask(url: str, due: float) -> tuple[float, bool]:
    await asyncio.sleep(due - time.monotonic())
    where = urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    body = json.dumps({"model_name": "waiting_model", "input_data": [7]}).encode()
    writer.write(
        b"POST /predict HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    )
    answer = await reader.read()
    writer.close()
    return time.monotonic() - due, answer.startswith(b"HTTP/1.1 200") and b"[7]" in answer
