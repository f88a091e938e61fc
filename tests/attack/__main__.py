"""``python -m tests.attack``: see ``make attack``. The exit code is 1 if anything must not be."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from pathlib import Path
from statistics import quantiles

import psutil

from tests.attack.crowd import allow_files, floods, hasty, idle, ordinary, slow
from tests.support.raw import request_bytes
from tests.support.server import ROOT, Server, wait_until

MODEL = Path("tests/models/trick_model")
QUESTION = {"model_name": "trick_model", "input_data": [{"nonce": 1}]}
QUIET_S = 3.0
SLOW_PAUSE_S = 0.25


def main() -> int:
    """Attack a server of our own; give the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--slow", type=int, default=300)
    options = parser.parse_args()
    allow_files(options.connections + options.slow + 1000)
    with Server(ROOT / MODEL) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the model")
        faults = asyncio.run(attack(server, options.connections, options.slow))
    for fault in faults:
        print(f"MUST NOT BE: {fault}")
    return 1 if faults else 0


async def attack(server: Server, connections: int, slow_ones: int) -> list[str]:
    """Have everybody come at once, and tell what they met; gives what must not be."""
    process = psutil.Process(server.process.pid)
    before, begin = process.memory_info().rss, time.monotonic()
    async with idle(server.url, connections) as lines:
        grown = process.memory_info().rss - before
        print(f"{connections} idle connections, made in {time.monotonic() - begin:.1f} s")
        print(f"  {grown / connections / 1024:.1f} KiB of memory each")
        print(f"  {await _load(process):.1%} of a core while nothing happens")
        stop = asyncio.Event()
        body = json.dumps(QUESTION).encode()
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(ordinary(server.url, request_bytes(body), stop))
            flooding = group.create_task(floods(server.url, stop))
            hurrying = group.create_task(hasty(server.url, stop))
            statuses = await slow(server.url, slow_ones, pause_s=SLOW_PAUSE_S)
            stop.set()
        took, flooded, sent = asking.result(), flooding.result(), hurrying.result()
        kept = sum(line.is_open for line in lines)
    print(f"{slow_ones} slow heads, a letter each {SLOW_PAUSE_S} s: {dict(statuses)}")
    print(f"heads that are too large: {dict(flooded)}")
    print(f"heads in a hurry, byte by byte: {sent} bytes")
    cuts = quantiles(took, n=100)
    print(f"{len(took)} ordinary requests, all answered:")
    print(f"  median {cuts[49] * 1000:.1f} ms, 99 % {cuts[98] * 1000:.1f} ms")
    print(f"{kept} of the idle connections were kept; the server has grown by {grown >> 20} MiB")
    return _faults(statuses, flooded, kept, connections)


def _faults(
    statuses: Counter[int], flooded: Counter[str], kept: int, connections: int
) -> list[str]:
    faults = []
    if set(statuses) != {408}:
        faults.append("a slow head was answered otherwise than with 408")
    if not all(name.endswith((": 400", ": 431", ": 408")) for name in flooded):
        faults.append("a head that is too large was taken")
    if kept < connections:
        faults.append(f"{connections - kept} idle connections were closed")
    return faults


async def _load(process: psutil.Process) -> float:
    """Give the cores that a process uses."""
    begin = process.cpu_times()
    await asyncio.sleep(QUIET_S)
    end = process.cpu_times()
    return (end.user + end.system - begin.user - begin.system) / QUIET_S


if __name__ == "__main__":
    sys.exit(main())
