"""What models measure of their own, as it is scraped; see docs/writing-a-model.md."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from modelyard.testing import ServedModel
from tests.support.server import Server, wait_until

MEASURES = """\
import os, threading, time
from modelyard import Model

class Served(Model):
    example = None

    def load(self) -> None:
        self.metrics.counter("loads_total", "How often it was loaded.").inc()
        self.metrics.gauge("index_size").set(10)

    def predict(self, instances: list[int]) -> list[int]:
        tokens = self.metrics.counter("tokens", "Tokens that were made.")
        for number in instances:
            thread = threading.Thread(target=tokens.inc, args=(number,), kwargs={"by": "thread"})
            thread.start()
            thread.join()
            tokens.inc(number, by="predict")
            self.metrics.histogram("confidence", buckets=[0.5, 0.9]).observe(number / 8)
            if number == 7:
                self.misuse()
            if number == 8:
                self.fork()
        return instances

    def fork(self) -> None:
        if (child := os.fork()) == 0:
            time.sleep(0.6)  # then it would be time to tell
            self.metrics.counter("tokens").inc(1000, by="fork")
            os._exit(0)
        os.waitpid(child, 0)

    def misuse(self) -> None:
        tokens = self.metrics.counter("tokens")
        tokens.inc(-1)
        tokens.inc("many")
        tokens.inc(model="another")
        tokens.inc(text="x" * 101)
        self.metrics.counter("to kens").inc()
        self.metrics.histogram("rising", buckets=[2, 1]).observe(1)
        self.metrics.gauge("tokens").set(1)
        for number in range(300):
            self.metrics.counter("callers").inc(caller=number)
"""

AWAITS = """\
from modelyard import Model

class Served(Model):
    async def predict(self, instances: list[int]) -> list[int]:
        self.metrics.counter("tokens").inc(sum(instances), by="predict")
        return instances

    def unload(self) -> None:
        self.metrics.counter("unloads").inc()
"""

TWO_RUNNERS = "[scaling]\nmin_runners = 2\nmax_runners = 2\n"


def write(folder: Path, code: str, more: str = "") -> Path:
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "model.py").write_text(code)
    about = f'name = "{folder.name}"\nversion = "1"\nclass = "model:Served"\n[cache]\nttl_s = 0\n'
    (folder / "model.toml").write_text(about + more)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("models")
    write(root / "measures", MEASURES, TWO_RUNNERS)
    write(root / "awaits", AWAITS, "[batching]\nconcurrency = 4\n")
    with Server(root) as server:
        wait_until(lambda: server.http.get("/readyz").status_code == 200, what="the models")
        yield server


def shows(server: Server, name: str, value: float, **labels: str) -> None:
    """Wait until a metric has a value."""
    wait_until(
        lambda: server.metric(name, **labels) == value, what=f"{name} {labels} to be {value}"
    )


def test_what_models_measure_is_scraped_and_survives_their_runners(server: Server) -> None:
    shows(server, "model_loads_total", 2, model="measures", version="1")  # nobody has asked yet
    shows(server, "model_index_size", 20, model="measures")
    for number in (3, 6):
        assert server.predict("measures", [number]).status_code == 200
    assert server.predict("awaits", [5]).status_code == 200
    shows(server, "model_tokens_total", 9, model="measures", by="predict")
    shows(server, "model_tokens_total", 9, model="measures", by="thread")
    shows(server, "model_tokens_total", 5, model="awaits", by="predict")
    shows(server, "model_confidence_bucket", 1, model="measures", le="0.5")
    shows(server, "model_confidence_count", 2, model="measures")
    shows(server, "model_confidence_sum", 1.125, model="measures")
    text = server.http.get("/metrics").text
    assert "# HELP model_tokens_total Tokens that were made.\n# TYPE model_tokens_total c" in text

    def of_measures() -> list[int]:
        return [r.pid for r in server.runners() if "measures" in " ".join(r.cmdline())]

    before = of_measures()
    assert len(before) == 2
    for runner in server.runners():
        if runner.pid in before:
            runner.kill()
    shows(server, "model_loads_total", 4, model="measures")  # of the new ones as well
    shows(server, "model_index_size", 20, model="measures")  # of the new ones alone
    assert server.predict("measures", [8]).status_code == 200
    assert server.predict("measures", [1]).status_code == 200
    shows(server, "model_tokens_total", 18, model="measures", by="predict")
    assert server.metric("model_tokens_total", by="fork") == 0


def test_what_is_not_allowed_or_too_much_is_dropped_and_told_once(server: Server) -> None:
    for _ in range(2):  # maybe by different runners: the limit is that of the model
        assert server.predict("measures", [7]).status_code == 200
    dropped = "modelyard_model_metrics_dropped_total"
    shows(server, dropped, 2 * 6, model="measures", cause="invalid")
    shows(server, dropped, 2, model="measures", cause="other_kind")
    wait_until(lambda: server.metric(dropped, cause="too_many") >= 200, what="too many to be told")
    text = server.http.get("/metrics").text
    assert sum(line.startswith("model_callers_total{") for line in text.splitlines()) < 200
    assert 'model="another"' not in text
    assert "to kens" not in text
    assert server.output.count("to kens") == 0  # one line for each cause, whatever the name
    assert 1 <= server.output.count("Prometheus does not allow") <= 2  # of each runner


def test_a_test_sees_what_a_model_measures(tmp_path: Path) -> None:
    with ServedModel(write(tmp_path / "measures", MEASURES)) as model:
        assert model.predict([3, 7]) == [3, 7]
        assert model.metric("tokens", by="thread") == 10
        assert model.metric("index_size") == 10
        assert model.metric("confidence") == 2
        assert model.metric("loads_total") == model.metric("loads") == 1
        assert model.metric("rising") == model.metric("unheard_of") == 0
