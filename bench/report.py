"""The table, and the page around it: all of ``docs/benchmarks.md``."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

import psutil

from bench.cluster import WAIT_S, WORKERS
from bench.load import ANSWER_WITHIN_S
from bench.neighbours import FAST_CONNECTIONS, PAUSE_MS, SLOW_CONNECTIONS
from bench.rows import Plan, Row
from bench.speed import MANY

PACKAGES = ("modelyard", "uvicorn", "uvloop", "httptools", "msgspec", "numpy", "onnxruntime")
HEADINGS = ("what", "figure", "least to greatest", "limit")

PAGE = """\
# Benchmarks

This is written by `make bench`, all of it, from one run: to change it, run that again. What stands
below, beside other serving systems, is written by `make bench-peers`; the last section, what a
request costs, by hand.

| | |
|---|---|
{about}

{table}

## What the figures mean

Client, servers and models share the machine, so absolute figures say little elsewhere; ratios
within one round say more. A figure is the median of its rounds, followed by the least and the
greatest of them (where a line has several figures: of the last). A line with a limit fails the run
when its figure is outside.

**Echo.** A bare ASGI application on the same server software as the gateway (uvicorn with uvloop
and httptools, access log off), which reads the body and sends a constant: the very bytes that the
model answers, under the same content type. **Cache off** is `modelyard serve` with one model and
one runner and no cache, so that each request goes to the model. **All cached** is the same with
the cache on, and always the same request.

**Connections.** One flower per request, wrk with one thread; each connection sends its next request
when the answer is there. {rounds} rounds of {round_s} s for each server and number of connections,
in turns whose order changes. A ratio is taken within its round. Whether the answers are
right is checked before anything is timed.

**Heads.** Each request has an `x-request-id` and a `traceparent` of its own, as all have that come
through a proxy. *Equal heads*: the client sends the same bytes every time. What it does to make the
others differ is in *µs of the client's*.

**µs of processor.** What the server and all its processes used per answer. It depends less than the
clock does on what else the machine was doing.

**Memory.** Resident memory (RSS) of a process. The runner's own share is its resident memory less
that of a plain Python process which imports what the model imports, loads the same artefact and
calls it once.

**Fast model.** Three models served, no cache; {fast} connections ask the fast one, each pausing
{pause_ms} ms on average after an answer, {round_s} s in each state. *Beside the slow model*:
{slow} connections keep the slow model busy meanwhile. *Beside a busy loop*: a Python process that
only counts takes its place. What the busy loop does to the fast model comes from sharing cores;
what the slow model does beyond that may come from Modelyard. These clients wait for their answers,
so a stall is seen once per connection and not by all who would have come meanwhile.

**Kills.** {many} connections, cache off, while the model's only runner is ended by `kill -9` every
second for {kill_s} s. Every answer is compared byte for byte. A socket error is a connection that
was refused, reset or closed, or an answer that took more than {within_s} s.

**Cluster.** One gateway, one worker, one runner and RabbitMQ, all of them beside the client, in
turn with the embedded shape. Two passes through the broker, each some 0.12 ms on an idle machine,
and five processes on these cores instead of two are what it costs; on machines of their own it is
the latency alone. *Killed workers*: one of two, every two seconds for {kill_s} s. *Spread*: a
model that waits {wait_ms} ms for each request, {workers} workers, two gateways; then an open loop
at 80 % of the ideal. *Redis*: the memory cache is off, no two requests are alike, and Redis is
stopped by SIGSTOP: once the breaker is open, a request costs one look at it.

**Start.** From the command to `/readyz` saying that all three models are ready, {starts} times.
"""


def make_table(rows: Sequence[Row]) -> str:
    """Give the rows as a Markdown table that reads well on a terminal too."""
    verdicts = {None: "", True: "ok", False: "**missed**"}
    lines = [[*HEADINGS, ""]]
    lines += [[row.what, row.figure, row.spread, row.limit, verdicts[row.is_kept]] for row in rows]
    return align(lines)


def align(lines: Sequence[Sequence[str]]) -> str:
    """Give lines, the first of them headings, as a Markdown table that reads well as it is."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    rules = ["-" * width for width in widths]
    return "\n".join(
        "| "
        + " | ".join(f"{text:{width}}" for text, width in zip(line, widths, strict=True))
        + " |"
        for line in (lines[0], rules, *lines[1:])
    )


def describe_machine(began: datetime.datetime) -> list[tuple[str, str]]:
    """Give what the figures depend on; call it before the machine is loaded."""
    memory_gib = psutil.virtual_memory().total / 1024**3
    return [
        ("date", f"{began:%Y-%m-%d %H:%M} UTC"),
        ("machine", f"{os.cpu_count()} cores of {_processor()}, {memory_gib:.1f} GiB of memory"),
        ("busy before the run", f"{psutil.cpu_percent(interval=2):.0f} % of all cores"),
        ("system", f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}"),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("versions", ", ".join(f"{name} {version(name)}" for name in PACKAGES)),
        ("client", _client()),
    ]


def report(measure: Callable[[], Iterable[Row]]) -> int:
    """Measure, print machine and figures, and give the exit code: 1 if a limit is missed."""
    about = describe_machine(datetime.datetime.now(datetime.UTC))
    before = os.getloadavg()[0]
    rows = list(measure())
    about.append(("load average", f"{before:.1f} before, {os.getloadavg()[0]:.1f} after"))
    print("\n".join(f"- {what}: {text}" for what, text in about))
    print(make_table(rows))
    return 1 if any(one.is_kept is False for one in rows) else 0


def make_page(rows: Sequence[Row], about: Sequence[tuple[str, str]], plan: Plan) -> str:
    """Give the page for this run."""
    return PAGE.format(
        about="\n".join(f"| {what} | {text} |" for what, text in about),
        table=make_table(rows),
        many=MANY,
        rounds=plan.rounds,
        round_s=plan.round_s,
        kill_s=plan.kill_s,
        starts=plan.starts,
        fast=FAST_CONNECTIONS,
        slow=SLOW_CONNECTIONS,
        pause_ms=PAUSE_MS,
        within_s=ANSWER_WITHIN_S,
        wait_ms=round(WAIT_S * 1000),
        workers=WORKERS,
    )


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _client() -> str:
    said = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False).stdout
    return " ".join(said.split()[:2])
