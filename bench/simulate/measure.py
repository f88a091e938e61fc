"""``make simulate ARGS=--measure``: writes ``measured.json`` from running processes of the product.

Service times come from ``modelyard serve``: one request after the other, each of as many rows as
the batch should have, and what ``/metrics`` says of the time in ``predict``. Costs come from a
gateway, a broker and a worker under load by wrk, as processor time of each process.
"""

from __future__ import annotations

import asyncio
import datetime
import re
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import aio_pika
import numpy as np
from numpy.typing import NDArray

from bench.load import run_load
from bench.processes import ROOT, Server
from bench.report import describe_machine
from bench.rows import tell
from bench.simulate.cluster import Cluster, metric, modelyard
from bench.simulate.data import Announcements, Batch, Level, Measured, ModelTimes, save
from bench.simulate.trials import run_trials
from bench.subjects import ALL_MODELS, FAST, ask, body_of

SIZES = {
    FAST: (1, 2, 4, 8, 16, 32, 64),
    "intermediate_iris_model": (1, 2, 4, 8, 16),
    "slow_iris_model": (1, 2, 4),
}
BUDGET_S = 6.0  # for each size
FEWEST, MOST = 12, 1000
QUANTILES = (0.05, 0.5, 0.95)
ROW = [6.7, 3.0, 5.2, 2.3]
CONNECTIONS = (1, 8, 64, 256)
LOAD_S = 6
HEARD = 8_000
EARS = 8
AT_ONCE = 200
REDUCTIONS = (
    'Name = rabbit_misc:r(<<"/">>, queue, <<"infer.fast_iris_model:1">>), '
    "{ok, Queue} = rabbit_amqqueue:lookup(Name), "
    "{_, Its} = process_info(amqqueue:get_pid(Queue), reductions), "
    "{All, _} = statistics(reductions), {Its, All}."
)

Numbers = NDArray[np.float64]


def measure() -> Measured:
    """Measure everything, and write it down; takes some five minutes."""
    about = dict(describe_machine(datetime.datetime.now(datetime.UTC)))
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder)
        levels, queue_share = _load_cluster(logs)
        measured = Measured(
            about=about,
            models={model: _time_model(model, logs) for model in ALL_MODELS},
            levels=levels,
            queue_share=queue_share,
            announcements=_announce(logs),
            trials=run_trials(logs),
        )
    save(measured)
    return measured


def _time_model(model: str, logs: Path) -> ModelTimes:
    folder = ROOT / "models" / model
    environment = {"MODELYARD_CACHE_BYTES": "0"}
    command = modelyard("serve", str(folder))
    with Server(model, command, environment=environment, log=logs / "times.log") as server:
        batches = [_time_batch(server, model, rows) for rows in SIZES[model]]
    with Cluster(folder, logs) as cluster:
        started_s = cluster.workers[0].started_in_s
    return ModelTimes(batches=batches, worker_start_s=round(started_s, 3))


def _time_batch(server: Server, model: str, rows: int) -> Batch:
    tell(f"{model}: batches of {rows}")
    runner = server.find(f"modelyard: runner {model} 1")
    assert runner is not None
    body = body_of(model, [ROW] * rows)
    seconds: list[float] = []
    began = time.monotonic()
    cpu_s = sum(runner.cpu_times()[:2])
    before = metric(server, "model_seconds_sum", model)
    while len(seconds) < FEWEST or (time.monotonic() - began < BUDGET_S and len(seconds) < MOST):
        ask(server, body)
        after = metric(server, "model_seconds_sum", model)
        seconds.append(after - before)
        before = after
    cpu_s = (sum(runner.cpu_times()[:2]) - cpu_s) / len(seconds)
    spread = [float(f"{value:.4g}") for value in np.quantile(seconds, QUANTILES)]
    return Batch(rows=rows, predict_s=spread, runner_cpu_s=float(f"{cpu_s:.4g}"))


def _load_cluster(logs: Path) -> tuple[list[Level], float]:
    with Cluster(ROOT / "models" / FAST, logs) as cluster:
        _load(cluster, 8, 2)
        before = _reductions(cluster)
        levels = [_load(cluster, connections, LOAD_S) for connections in CONNECTIONS]
        queue, whole = _reductions(cluster) - before
    return levels, round(float(queue / whole), 3)


def _reductions(cluster: Cluster) -> Numbers:
    """Give what the model's queue and the whole broker have done, in Erlang's measure of work."""
    said = cluster.broker.control("eval", REDUCTIONS)
    return np.array([float(number) for number in re.findall(r"\d+", said)])


def _load(cluster: Cluster, connections: int, seconds: int) -> Level:
    tell(f"cluster: {connections} connections")
    worker = cluster.workers[0]
    runner = worker.find(f"modelyard: runner {FAST} 1")
    assert runner is not None

    def read() -> Numbers:
        runner_s = sum(runner.cpu_times()[:2])
        return np.array(
            [
                metric(worker, "model_seconds_count", FAST),
                cluster.gateway.cpu_s(),
                cluster.broker_cpu_s(),
                worker.cpu_s() - runner_s,
                runner_s,
            ]
        )

    before = read()
    seen = run_load(cluster.gateway.url, body_of(FAST), connections=connections, seconds=seconds)
    batches, *cpu_s = (read() - before).tolist()
    gateway, broker, worker_us, runner_us = (round(s / seen.answers * 1e6, 1) for s in cpu_s)
    assert seen.failures == 0
    return Level(
        connections=connections,
        requests_per_s=round(seen.rate),
        requests_per_bundle=round(seen.answers / batches, 2),
        gateway_us=gateway,
        broker_us=broker,
        worker_us=worker_us,
        runner_us=runner_us,
    )


def _announce(logs: Path) -> Announcements:
    """Send a real announcement again and again, and see what each costs."""
    with ExitStack() as stack:
        cluster = stack.enter_context(Cluster(ROOT / "models" / FAST, logs))
        return asyncio.run(_repeat(cluster))


async def _repeat(cluster: Cluster) -> Announcements:
    tell("cluster: announcements")
    async with await aio_pika.connect(cluster.broker.url) as connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange("modelyard.catalog")
        ears = [await channel.declare_queue(exclusive=True) for _ in range(EARS)]
        await ears[0].bind(exchange)
        heard = None
        while heard is None:
            heard = await ears[0].get(fail=False)
            await asyncio.sleep(0.1)
        await ears[0].unbind(exchange)
        again = aio_pika.Message(heard.body, type=heard.type, expiration=6)
        gateway = cluster.gateway.cpu_s()
        one_us = await _publish(cluster, exchange, again)
        gateway = cluster.gateway.cpu_s() - gateway
        for ear in ears:
            await ear.bind(exchange)
            await ear.consume(_ignore, no_ack=True)
        more_us = await _publish(cluster, exchange, again)
    return Announcements(
        bytes=len(heard.body),
        gateway_us=round(gateway / HEARD * 1e6, 1),
        broker_us=round(one_us, 1),
        further_us=round((more_us - one_us) / EARS, 1),
    )


async def _publish(
    cluster: Cluster, exchange: aio_pika.abc.AbstractExchange, message: aio_pika.Message
) -> float:
    """Give the microseconds of the broker for one message, until all who listen have read it."""
    before = cluster.broker_cpu_s()
    for _ in range(HEARD // AT_ONCE):
        sent = [exchange.publish(message, "", mandatory=False) for _ in range(AT_ONCE)]
        await asyncio.gather(*sent)
    await asyncio.sleep(3)
    return (cluster.broker_cpu_s() - before) / HEARD * 1e6


async def _ignore(_: aio_pika.abc.AbstractIncomingMessage) -> None:
    pass
