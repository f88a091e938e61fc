"""``python -m bench.chains``: one model that asks another, in a cluster, while workers are killed.

Each model has two workers; every two seconds one of those whose other one is up is killed. The exit
code is 1 if an answer is not a 200 with the right prediction.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count, cycle
from pathlib import Path

import httpx

from bench.report import report
from bench.rows import Limit, Row, row
from tests.support.broker import Broker
from tests.support.calling import write_calling, write_leaf
from tests.support.server import Member, wait_until

SECONDS, EVERY_S, CALLERS = 90.0, 2.0, 16
MODELS = ("front", "leaf")
LIMITS = "[limits]\ntimeout_s = 60\n[cache]\nttl_s = 0\n"


class Chain:
    """A gateway and two workers of either model."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        broker = stack.enter_context(Broker(folder / "broker"))
        settings = {"MODELYARD_AMQP_URL": broker.url, "MODELYARD_CACHE_BYTES": "0"}
        self.gateway = stack.enter_context(Member("gateway", settings=settings))
        self._settings = {**settings, "MODELYARD_GATEWAY_URL": self.gateway.url}
        self._folder, self._stack = folder, stack
        write_leaf(folder)
        write_calling(folder, "front", "leaf", more=LIMITS)
        self._workers = {name: [self._start(name), self._start(name)] for name in MODELS}
        wait_until(lambda: all(self._ready(name) == 2 for name in MODELS), what="the workers")

    def kill_one(self, name: str) -> bool:
        """Kill the worker of a model that has been up for longest, if the other one is up."""
        if self._ready(name) < 2:
            return False
        killed = self._workers[name].pop(0)
        killed.process.kill()
        self._workers[name].append(self._start(name))
        return True

    def _start(self, name: str) -> Member:
        member = Member("worker", self._folder / name, settings=self._settings)
        return self._stack.enter_context(member)

    def _ready(self, name: str) -> int:
        versions = self.gateway.http.get(f"/models/{name}").json().get("versions", [])
        return versions[0]["capacity"]["runners_ready"] if versions else 0


def main() -> int:
    """Measure; give the exit code."""
    return report(_measure)


def _measure() -> Iterator[Row]:
    seen: Counter[str] = Counter()
    numbers, is_over = count(1), threading.Event()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        chain = Chain(folder, stack)

        def ask() -> None:
            with httpx.Client(base_url=chain.gateway.url, timeout=90) as http:
                while not is_over.is_set():
                    number = next(numbers)
                    body = {"model_name": "front", "input_data": [{"nonce": number}]}
                    answer = http.post("/predict", json=body)
                    is_right = answer.is_success and _nonce_of(answer) == number
                    seen["right" if is_right else f"{answer.status_code}"] += 1

        kills, began = 0, time.monotonic()
        with ThreadPoolExecutor(CALLERS) as threads:
            asking = [threads.submit(ask) for _ in range(CALLERS)]
            for name in cycle(MODELS):
                time.sleep(EVERY_S)
                if time.monotonic() - began > SECONDS:
                    break
                kills += chain.kill_one(name)
            is_over.set()
            for one in asking:
                one.result()
    failed = sum(number for what, number in seen.items() if what != "right")
    yield row("answers through both models, all 200 and right", [seen["right"]], "{:,.0f}")
    yield row("workers killed meanwhile", [kills], "{:.0f}", Limit("≥", 1))
    yield row("other answers", [failed], "{:.0f}", Limit("=", 0))


def _nonce_of(answer: httpx.Response) -> int:
    return int(answer.json()["prediction"][0]["nonce"])


if __name__ == "__main__":
    sys.exit(main())
