"""``python -m bench.streams``: answers in pieces, models that wait, callers who leave.

RabbitMQ, gateways, workers, models and clients share the machine. A piece holds the time at which
the model made it, so what is measured is the way from there to the client. The exit code is 1 if a
limit is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import msgspec
import psutil

from bench.processes import cpu_s_of
from bench.report import report
from bench.rows import Limit, Row, row, tell
from tests.support.broker import Broker
from tests.support.cluster import Cluster, copy_trick
from tests.support.raw import address_of, request_bytes
from tests.support.server import Member, Server, wait_until

STREAMS = 200
PIECES_PER_S = 25
SECONDS = 20
READERS_THAT_STOP = 20
LEAVING = 1_000
ASYNC_S, CONCURRENCY = 0.05, 256
KILL_EVERY_S = 3.0
MS, COUNT, SHARE = "{:.1f} ms", "{:,.0f}", "{:.3f}"

TICKING = """\
import asyncio
import time
from collections.abc import AsyncIterator
import msgspec
from modelyard import Model

class Ask(msgspec.Struct):
    nonce: int
    pieces: int
    every_s: float

class Piece(msgspec.Struct, array_like=True):
    nonce: int
    number: int
    made: float

class Ticking(Model):
    example = [{"nonce": 1, "pieces": 1, "every_s": 0.0}]

    async def predict(self, instances: list[Ask]) -> list[int]:
        await asyncio.sleep(instances[0].every_s)
        return [ask.nonce * 3 + 1 for ask in instances]

    async def stream(self, instance: Ask) -> AsyncIterator[Piece]:
        began = time.monotonic()
        for number in range(instance.pieces):
            due = began + number * instance.every_s
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            yield Piece(instance.nonce, number, time.monotonic())
"""
MANIFEST = """\
name = "ticking"
version = "1"
class = "model:Ticking"
[batching]
concurrency = 256
max_batch_size = 1
[limits]
timeout_s = 60
piece_timeout_s = 20
max_in_flight = 5000
[cache]
ttl_s = 0
"""


class Piece(msgspec.Struct, array_like=True):
    """What the model has written: the request's nonce, the piece's number, and when."""

    nonce: int
    number: int
    made: float


_read_piece = msgspec.json.Decoder(Piece).decode


class Heard:
    """What came of one stream."""

    def __init__(self, nonce: int) -> None:
        self.nonce = nonce
        self.delays_s: list[float] = []  # from the model's clock, by piece
        self.status = self.ended = ""
        self.is_wrong = False

    def hear(self, line: bytes) -> None:
        """Note a line of the response."""
        if line.startswith(b"HTTP/1.1"):
            self.status = line.split()[1].decode()
        elif line.startswith(b"event: "):
            self.ended = line.split()[1].decode()
        elif line.startswith(b"data: [") and not self.ended:
            piece = _read_piece(line[len(b"data: ") :])
            is_next = piece.number == len(self.delays_s) and piece.nonce == self.nonce
            self.is_wrong = self.is_wrong or not is_next
            self.delays_s.append(time.monotonic() - piece.made)


def write_ticking(folder: Path) -> Path:
    """Write the model whose pieces tell when they were made; returns its folder."""
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "model.py").write_text(TICKING)
    (folder / "model.toml").write_text(MANIFEST)
    return folder


def _ask(nonce: int, pieces: int, every_s: float, *, is_stream: bool = True) -> bytes:
    instance = {"nonce": nonce, "pieces": pieces, "every_s": every_s}
    body = msgspec.json.encode({"model_name": "ticking", "input_data": [instance]})
    return request_bytes(body, *(["accept: text/event-stream"] if is_stream else []))


async def _listen(url: str, nonce: int, *, pieces: int, every_s: float) -> Heard:
    heard = Heard(nonce)
    reader, writer = await asyncio.open_connection(*address_of(url))
    writer.write(_ask(nonce, pieces, every_s))
    try:
        while (line := await reader.readline()) and not heard.ended:
            heard.hear(line)
            if heard.status not in ("", "200"):
                break
    finally:
        writer.close()
    return heard


def percentile(values: list[float], share: float) -> float:
    """Return the value that so large a share of ``values`` is at most."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


class Ground:
    """Two gateways and two workers of the model around a broker."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.broker = stack.enter_context(Broker(folder / "broker"))
        self.cluster = Cluster(
            self.broker, stack, folder=write_ticking(folder / "model"), MODELYARD_DRAIN_S="5"
        )
        self.gateways = [self.cluster.gateway, self.cluster.start_gateway()]
        for _ in range(2):
            self.cluster.start_worker()
        self.wait_for(2)

    def wait_for(self, workers: int) -> None:
        """Wait until both gateways know of so many workers."""
        for gateway in self.gateways:
            wait_until(partial(_has, gateway, workers), what="the workers")

    def url_of(self, number: int) -> str:
        """Return the gateway of a client."""
        return self.gateways[number % 2].url

    def trees(self) -> list[psutil.Process]:
        """Return the processes of ours."""
        found: list[psutil.Process] = []
        for member in (*self.gateways, *self.cluster.workers):
            if member.process.poll() is None:
                own = psutil.Process(member.process.pid)
                found += [own, *own.children(recursive=True)]
        return found

    def messages(self) -> int:
        """Return how many messages the broker has received so far."""
        told = self.broker.control("eval", "rabbit_global_counters:overview().")
        return sum(map(int, re.findall(r"\bmessages_received_total => (\d+)", told)))


def _has(gateway: Member, workers: int) -> bool:
    return _ready(gateway) >= workers


def _ready(gateway: Member) -> int:
    found = gateway.http.get("/models/ticking").json().get("versions", [])
    return int(found[0]["capacity"]["runners_ready"]) if found else 0


async def _many(ground: Ground, *, seconds: float, stopped: int = 0) -> list[Heard]:
    """Listen to all streams; ``stopped`` further ones are begun and not read."""
    every_s, silent = 1 / PIECES_PER_S, []
    for number in range(stopped):
        _, writer = await asyncio.open_connection(*address_of(ground.url_of(number)))
        writer.write(_ask(10_000 + number, 1_000_000, 0.0001))
        silent.append(writer)
    pieces = round(seconds * PIECES_PER_S)
    heard = await asyncio.gather(
        *(
            _listen(ground.url_of(number), number, pieces=pieces, every_s=every_s)
            for number in range(STREAMS)
        )
    )
    for writer in silent:
        writer.close()
    return heard


def _delays(heard: list[Heard]) -> tuple[list[float], list[float]]:
    """Return the delays in ms of first pieces, and of the others beside the one before."""
    firsts = [1e3 * one.delays_s[0] for one in heard if one.delays_s]
    gaps = [
        1e3 * abs(later - earlier)
        for one in heard
        for earlier, later in zip(one.delays_s, one.delays_s[1:], strict=False)
    ]
    return firsts, gaps


def _streams(ground: Ground) -> Iterator[Row]:
    tell("streams")
    asyncio.run(_many(ground, seconds=2))
    processes = ground.trees()
    memory = [one.memory_info().rss for one in processes]
    cpu_s, messages = cpu_s_of(processes), ground.messages()
    began = time.monotonic()
    heard = asyncio.run(_many(ground, seconds=SECONDS))
    took_s = time.monotonic() - began
    cpu_s, messages = cpu_s_of(processes) - cpu_s, ground.messages() - messages
    grown = max(
        one.memory_info().rss / before for one, before in zip(processes, memory, strict=True)
    )
    pieces = sum(len(one.delays_s) for one in heard)
    firsts, gaps = _delays(heard)
    wrong = sum(one.is_wrong or one.ended != "end" for one in heard)
    what = f"{STREAMS} streams of {PIECES_PER_S} pieces/s"
    yield row(f"{what}: wrong or broken", [wrong], COUNT, Limit("=", 0))
    yield row(
        f"{what}: first piece, p99",
        [percentile(firsts, 0.99)],
        MS,
        Limit("≤", 30),
    )
    yield row(f"{what}: gap, p99", [percentile(gaps, 0.99)], MS, Limit("≤", 30))
    yield row(f"{what}: processor per piece, all processes", [1e6 * cpu_s / pieces], "{:.0f} µs")
    yield row(f"{what}: messages at the broker", [messages / took_s], "{:,.0f}/s")
    yield row(f"{what}: memory, most grown", [grown], "{:.2f} times", Limit("≤", 1.1))
    tell("readers that stop")
    heard = asyncio.run(_many(ground, seconds=SECONDS / 2, stopped=READERS_THAT_STOP))
    _, beside = _delays(heard)
    wrong = sum(one.is_wrong or one.ended != "end" for one in heard)
    what = f"{READERS_THAT_STOP} readers stop"
    yield row(f"{what}: others that are wrong or broken", [wrong], COUNT, Limit("=", 0))
    yield row(f"{what}: gap of the others, p99", [percentile(beside, 0.99)], MS, Limit("≤", 30))


class Killing:
    """Streams and ordinary load while a worker is killed every 3 s."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self.heard: list[Heard] = []
        self.ordinary: Counter[int] = Counter()  # by status; -1 for wrong ones
        self.killed = 0

    async def run(self, seconds: float) -> None:
        """Run for so long."""
        until = time.monotonic() + seconds
        asked = [self._listen_on(number, until) for number in range(40)]
        asked += [self._ask_on(number, until) for number in range(8)]
        killing = asyncio.create_task(self._kill_on(until))
        await asyncio.gather(*asked)
        await killing

    async def _listen_on(self, number: int, until: float) -> None:
        nonce, url = 100_000 * (number + 1), self._ground.url_of(number)
        while time.monotonic() < until:
            nonce += 1
            self.heard.append(await _listen(url, nonce, pieces=40, every_s=0.04))

    async def _ask_on(self, number: int, until: float) -> None:
        reader, writer = await asyncio.open_connection(*address_of(self._ground.url_of(number)))
        nonce = 0
        while time.monotonic() < until:
            nonce += 1
            writer.write(_ask(nonce, 1, 0.0, is_stream=False))
            status, body = await _read_answer(reader)
            is_right = status != 200 or b'"prediction":[%d]' % (nonce * 3 + 1) in body
            self.ordinary[status if is_right else -1] += 1
        writer.close()

    async def _kill_on(self, until: float) -> None:
        workers = self._ground.cluster.workers
        while time.monotonic() + KILL_EVERY_S < until:
            await asyncio.sleep(KILL_EVERY_S)
            workers.pop(0).process.kill()
            self.killed += 1
            await asyncio.to_thread(self._ground.cluster.start_worker)


async def _read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(re.findall(rb"content-length: (\d+)", head)[0])
    return int(head.split()[1]), await reader.readexactly(length)


def _killed(ground: Ground, *, seconds: float) -> Iterator[Row]:
    """Kill workers under streams and ordinary load."""
    tell("workers that are killed")
    killing = Killing(ground)
    asyncio.run(killing.run(seconds))
    heard, ordinary = killing.heard, killing.ordinary
    broken = sum(one.ended == "error" for one in heard)
    early = sum(not one.delays_s for one in heard)
    silent = sum(bool(one.delays_s) and one.ended not in ("end", "error") for one in heard)
    others = ordinary.total() - ordinary[200]
    what = f"{killing.killed} workers killed in {seconds:.0f} s"
    yield row(f"{what}: streams", [len(heard)], COUNT)
    yield row(f"{what}: streams that ended with an error event", [broken], COUNT)
    for problem, count in (
        ("pieces lost, twice, or of others", sum(one.is_wrong for one in heard)),
        ("streams that failed before a piece", early),
        ("streams that ended without an event", silent),
    ):
        yield row(f"{what}: {problem}", [count], COUNT, Limit("=", 0))
    yield row(f"{what}: ordinary answers", [ordinary.total()], COUNT)
    yield row(f"{what}: other than 200, or wrong", [others], COUNT, Limit("=", 0))


def _leaving(stack: ExitStack, folder: Path) -> Iterator[Row]:
    """Let 1,000 clients leave while their requests wait in the broker."""
    tell("callers who leave")
    broker = stack.enter_context(Broker(folder / "broker"))
    model = copy_trick(folder)
    manifest = model / "model.toml"
    text = manifest.read_text()
    manifest.write_text(text.replace("max_in_flight = 200", "max_in_flight = 2000"))
    cluster = Cluster(broker, stack, folder=model)
    cluster.start_worker()
    cluster.wait_for_workers(1)
    diary, url = folder / "diary", cluster.gateway.url

    def ask(nonce: int, act: str) -> bytes:
        instance = {"nonce": nonce, "act": act, "diary": str(diary)}
        body = {"model_name": "trick_model", "input_data": [instance], "timeout_s": 120}
        return request_bytes(msgspec.json.encode(body))

    async def run() -> None:
        reader, first = await asyncio.open_connection(*address_of(url))
        first.write(ask(1, "wait"))
        await asyncio.to_thread(wait_until, diary.exists, what="the runner to be taken")
        leaving = []
        for nonce in range(10, 10 + LEAVING):
            _, writer = await asyncio.open_connection(*address_of(url))
            writer.write(ask(nonce, "answer"))
            leaving.append(writer)
        in_flight = "modelyard_in_flight"
        metric = cluster.gateway.metric
        await asyncio.to_thread(
            wait_until, lambda: metric(in_flight) == LEAVING + 1, what="all of them to wait"
        )
        for writer in leaving:
            writer.close()
        await asyncio.to_thread(wait_until, lambda: metric(in_flight) == 1, what="all to leave")
        await asyncio.to_thread(Path(f"{diary}.go").touch)
        await reader.readuntil(b"\r\n\r\n")
        first.close()

    asyncio.run(run())
    assert cluster.ask(2).status_code == 200
    never = 1 - (len(diary.read_text().split()) - 1) / LEAVING
    yield row(
        f"{LEAVING:,} callers leave: requests that never run", [never], SHARE, Limit("≥", 0.95)
    )


def _waiting(stack: ExitStack, folder: Path) -> Iterator[Row]:
    """Ask an async model that waits, embedded."""
    tell("a model that waits")
    server = stack.enter_context(Server(write_ticking(folder / "model")))
    wait_until(lambda: _ready(server) == 1, what="the model")
    answered = 0

    async def ask_on(until: float) -> None:
        nonlocal answered
        reader, writer = await asyncio.open_connection(*address_of(server.url))
        request = _ask(1, 1, ASYNC_S, is_stream=False)
        while time.monotonic() < until:
            writer.write(request)
            status, _ = await _read_answer(reader)
            answered += status == 200
        writer.close()

    async def run(seconds: float) -> float:
        nonlocal answered
        answered, began = 0, time.monotonic()
        until = began + seconds
        await asyncio.gather(*(ask_on(until) for _ in range(CONCURRENCY)))
        return answered / (time.monotonic() - began)

    asyncio.run(run(2))
    own = psutil.Process(server.process.pid)
    tree = [own, *own.children(recursive=True)]
    ours, cpu_s, began = psutil.Process(), cpu_s_of(tree), time.monotonic()
    client_s = cpu_s_of([ours])
    rate = asyncio.run(run(10))
    took_s = time.monotonic() - began
    busy = (cpu_s_of(tree) - cpu_s) / took_s
    client = (cpu_s_of([ours]) - client_s) / took_s
    ideal = CONCURRENCY / ASYNC_S
    what = f"async, waits {1e3 * ASYNC_S:.0f} ms, concurrency {CONCURRENCY}"
    yield row(f"{what}: answers", [rate], "{:,.0f}/s")
    yield row(f"{what}: share of the ideal {ideal:,.0f}/s", [rate / ideal], SHARE, Limit("≥", 0.95))
    yield row(f"{what}: processors that the server used", [busy], "{:.2f}")
    yield row(f"{what}: processors that the client used", [client], "{:.2f}")


def _measure(folder: Path, options: argparse.Namespace) -> Iterator[Row]:
    for part in ("streams", "killed"):
        if part in options.only:
            (folder / part).mkdir()
            with ExitStack() as stack:
                ground = Ground(stack, folder / part)
                if part == "streams":
                    yield from _streams(ground)
                else:
                    yield from _killed(ground, seconds=options.kill_s)
    for name, measure in (("leaving", _leaving), ("waiting", _waiting)):
        if name in options.only:
            (folder / name).mkdir()
            with ExitStack() as stack:
                yield from measure(stack, folder / name)


def main() -> int:
    """Measure; give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.streams", description=__doc__)
    parts = ("streams", "killed", "leaving", "waiting")
    parser.add_argument("--only", action="append", choices=parts, help="this part alone")
    parser.add_argument("--kill-s", type=float, default=60.0, help="how long workers are killed")
    options = parser.parse_args()
    options.only = options.only or parts
    with tempfile.TemporaryDirectory() as folder:
        return report(partial(_measure, Path(folder), options))


if __name__ == "__main__":
    sys.exit(main())
