"""What a shadow that gets every request costs the answered path, also one that misbehaves."""

from __future__ import annotations

import shutil
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from bench.cluster import PROGRAM, WAIT_S, WAITING, Cluster
from bench.load import Seen, run_load
from bench.processes import ROOT, Server
from bench.rows import Limit, Row, details, row, tell
from modelyard.core.routes import Route, Shadow
from modelyard.store.routes import RouteStore
from modelyard.store.schema import open_engine
from tests.support.releases import run

MODEL, MAIN = "waiting_model", "1"
ROUNDS, ROUND_S, CONNECTIONS = 20, 3, 16
BODY = f'{{"model_name": "{MODEL}", "input_data": [2]}}'
ANSWER = f'{{"model_name":"{MODEL}","model_version":"{MAIN}","prediction":[2]}}'
FOLLOWED_S = 2  # gateways look for changes twice a second
WAITS = "time.sleep(WAIT_S)"
SHADOWS = {
    "waits as long": WAITS,
    "is ten times as slow": "time.sleep(10 * WAIT_S)",
    "hangs": "time.sleep(3600)",
    "crashes": "import os; os._exit(7)",
}
"""What a version does with each batch but its own example. The first has a limit."""


def measure_shadows(folder: Path) -> Iterator[Row]:
    """Give p99 with a shadow beside p99 without, embedded and in a cluster."""
    models = [_copy(folder, MAIN, WAITS)]
    models += [_copy(folder, str(at), does) for at, does in enumerate(SHADOWS.values(), start=2)]
    for shape, start in (("embedded", _embedded), ("cluster", _cluster)):
        with ExitStack() as stack:
            settings = {
                "MODELYARD_STATE_FOLDER": str(folder / f"state-{shape}"),
                "MODELYARD_CACHE_BYTES": "0",
            }
            run(settings, "route", "promote", MODEL, MAIN, "--unchecked")
            server = start(stack, folder, models, settings)
            yield from _measure(shape, server, Path(settings["MODELYARD_STATE_FOLDER"]))


def _copy(folder: Path, version: str, does: str) -> Path:
    """Give a version of the model that waits 20 ms."""
    copy = shutil.copytree(ROOT / WAITING, folder / f"{MODEL}_{version}")
    manifest, code = copy / "model.toml", copy / "src" / "model.py"
    text = manifest.read_text().replace('version = "1"', f'version = "{version}"')
    manifest.write_text(text.replace("batch_size = 1 ", f"batch_size = {CONNECTIONS} "))
    text = code.read_text().replace(f"WAIT_S = {WAIT_S}", "WAIT_S = 0.02")
    code.write_text(text.replace(WAITS, f"if instances != self.example:\n            {does}"))
    return copy


def _embedded(
    stack: ExitStack, folder: Path, models: list[Path], settings: dict[str, str]
) -> Server:
    command, log = [PROGRAM, "serve", *map(str, models)], folder / "shadows-embedded.log"
    return stack.enter_context(Server("embedded", command, environment=settings, log=log))


def _cluster(
    stack: ExitStack, folder: Path, models: list[Path], settings: dict[str, str]
) -> Server:
    cluster = stack.enter_context(Cluster(folder, **settings))
    for model in models:
        cluster.start("worker", str(model))
    return cluster.start("gateway")


def _measure(shape: str, server: Server, state: Path) -> Iterator[Row]:
    (database,) = state.glob("*.db")
    engine = open_engine(f"sqlite:///{database}")
    store, failures = RouteStore(engine, wall_clock=time.time), 0

    def load(shadow: Shadow | None) -> Seen:
        was = store.find(MODEL)
        store.change([(was, Route({MAIN: 100}, shadow=shadow))], actor="bench", why="")
        time.sleep(FOLLOWED_S)
        return run_load(server.url, BODY, connections=CONNECTIONS, seconds=ROUND_S, expected=ANSWER)

    load(None)
    for version, what in enumerate(SHADOWS, start=2):
        is_limited = what == next(iter(SHADOWS))
        alone: list[Seen] = []
        beside: list[Seen] = []
        for number in range(ROUNDS if is_limited else ROUNDS // 6):
            tell(f"{shape}: a shadow that {what}, round {number + 1}")
            both = [(alone, None), (beside, Shadow(str(version)))]
            for seen, shadow in reversed(both) if number % 2 else both:
                seen.append(load(shadow))
        if is_limited:
            copied = _same(server) / sum(one.answers for one in beside)
            yield row(f"{shape}: copies that were answered", [copied], "{:.0%}", Limit("≥", 0.9))
        failures += sum(one.failures for one in (*alone, *beside))
        growth = [ours.p99_ms / theirs.p99_ms for ours, theirs in zip(beside, alone, strict=True)]
        name = f"{shape}: p99 with a shadow that {what} / without"
        yield row(name, growth, "{:.2f}", Limit("≤", 1.05) if is_limited else None)
        for state_, runs in (("without", alone), ("with", beside)):
            figures = {
                "p50 {:.2f} ms": [one.p50_ms for one in runs],
                "p99 {:.2f} ms": [one.p99_ms for one in runs],
            }
            yield details(f"{shape}: {state_} a shadow that {what}", figures)
    engine.dispose()
    yield row(
        f"{shape}: answers other than the main version's", [failures], "{:.0f}", Limit("=", 0)
    )


def _same(server: Server) -> float:
    """Give how many copies have been answered as the requests were."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=10) as page:
        lines = page.read().decode().splitlines()
    ours = (one for one in lines if one.startswith("modelyard_shadow_answers_total"))
    return sum(float(one.rpartition(" ")[2]) for one in ours if 'result="same"' in one)
