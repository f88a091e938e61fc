"""The simulation behind ``docs/scaling.md``: right by theory, and the page is what it gives."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import yaml

from bench.simulate import page, theory
from bench.simulate import parameters as p
from bench.simulate.__main__ import main
from bench.simulate.arrivals import Shape, constant, shaped
from bench.simulate.autoscaler import Autoscaler, CpuSignal, QueueSignal
from bench.simulate.checks import CHECKS, Check
from bench.simulate.comparison import MISSED, compare
from bench.simulate.data import load
from bench.simulate.demand import DemandSignal, staff
from bench.simulate.farm import Farm, Rules
from bench.simulate.gateway import EXPIRED, REFUSED, Process
from bench.simulate.paper import Costs, cells_for, costs_of, need
from bench.simulate.scenarios import Outcome
from bench.simulate.service import Busy, Cost
from modelyard.core.demand import Meter, Sample
from modelyard.core.pace import Pace
from modelyard.transports.amqp.announcer import EVERY_S


def takes(seconds: float, cpu_s: float = 0.0) -> Busy:
    return Busy(seconds, cpu_s)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: f"{check.name} {check.utilisation}")
def test_the_mean_wait_is_that_of_the_closed_form(check: Check) -> None:
    simulated = check.simulated()
    assert simulated.mean_s == pytest.approx(check.theory_s(), abs=3 * simulated.error_s)
    assert simulated.error_s < 0.1 * check.theory_s()


def test_the_tail_of_the_wait_is_that_of_the_closed_form() -> None:
    generator = np.random.default_rng(3)
    arrivals = constant(3.2, length_s=12_000, seed=4)
    services: list[float] = []

    def service(_: int) -> Busy:
        services.append(generator.exponential())
        return takes(services[-1])

    latency = Farm(arrivals, service, Rules(), workers=4).run(13_000)
    waits = latency - np.array(services)  # first come, first served: in the same order
    for share in (0.9, 0.99):
        wanted = theory.mmc_quantile(3.2, 1, 4, share)
        assert np.quantile(waits, share) == pytest.approx(wanted, rel=0.1)


def test_littles_law_holds() -> None:
    arrivals = constant(0.7, length_s=20_000, seed=1)
    farm = Farm(arrivals, lambda _: takes(1), Rules(prefetch=1 << 30), workers=1)
    seen: list[int] = []

    def watch() -> Process:
        while True:
            seen.append(sum(farm.messages()))
            yield farm.env.timeout(0.5)

    farm.env.process(watch())
    latency = farm.run(20_000)
    stay_s = float(latency[latency >= 0].mean())
    assert np.mean(seen) == pytest.approx(theory.little(0.7, stay_s), rel=0.03)


def test_arrivals_follow_their_shape() -> None:
    shape = Shape("step", [(0, 0.25), (100, 0.25), (100, 1), (200, 1)])
    times = shaped(shape, greatest=100, seed=2)
    assert np.sum(times < 100) == pytest.approx(2500, rel=0.1)
    assert np.sum(times >= 100) == pytest.approx(10_000, rel=0.05)
    assert np.array_equal(times, shaped(shape, greatest=100, seed=2))


def test_an_idle_runner_takes_at_once_all_that_fits() -> None:
    sizes: list[int] = []

    def service(requests: int) -> Busy:
        sizes.append(requests)
        return takes(1)

    arrivals = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    rules = Rules(max_batch_size=4, prefetch=100)
    latency = Farm(arrivals, service, rules, workers=1).run(10)
    assert sizes == [1, 4, 1]
    assert latency == pytest.approx([1, 1.9, 1.8, 1.7, 1.6, 2.5])


@pytest.mark.parametrize(("workers", "bundles"), [(1, 3), (3, 4)])
def test_a_gateway_sends_as_many_as_are_under_way_or_what_waited(
    workers: int, bundles: int
) -> None:
    arrivals = np.array([0.0, 0.001, 0.002, 0.0025])
    rules = Rules(max_batch_size=8, fill_s=0.005, spare_s=0.0002)
    farm = Farm(arrivals, lambda _: takes(1), rules, workers=workers)
    farm.env.run(0.5)
    # With one worker the last two go together; the third of three may be free, so they do not wait.
    assert farm.messages() == (bundles - workers, workers)


def test_what_expired_does_not_run_and_what_is_too_much_is_refused() -> None:
    ran: list[int] = []

    def service(requests: int) -> Busy:
        ran.append(requests)
        return takes(1)

    arrivals = np.array([0.0, 0.1, 0.2, 0.3])
    rules = Rules(timeout_s=1.5, max_in_flight=3)
    latency = Farm(arrivals, service, rules, workers=1).run(10)
    assert latency[0] == pytest.approx(1)
    assert latency.tolist()[1:] == [EXPIRED, EXPIRED, REFUSED]
    assert ran == [1, 1]  # the second was run to its end, too late; the third never


def test_bundles_go_in_turn_to_workers_with_room_busy_or_not() -> None:
    arrivals = np.array([0.5, 1.0, 1.5])
    lengths = iter([10.0, 1.0, 1.0])
    farm = Farm(arrivals, lambda _: takes(next(lengths)), Rules(prefetch=2), workers=2)
    latency = farm.run(50)
    assert latency == pytest.approx([10, 1, 10])  # the third waits behind the first


class Asks(NamedTuple):
    """A signal that always asks for the same."""

    pods: int

    def wanted(self, replicas: int) -> int:
        return self.pods


def farm_of(workers: int) -> Farm:
    return Farm(np.array([]), lambda _: takes(1), Rules(), workers=workers)


def test_the_hpa_adds_four_pods_or_doubles_in_a_period() -> None:
    farm = farm_of(1)
    Autoscaler(farm, lambda _: Asks(30), pod_start_s=5)
    pods = []
    for period in range(1, 5):
        farm.env.run(15 * period + 1)
        pods.append(len(farm.staying))
    assert pods == [5, 10, 20, 30]
    assert sum(worker.is_ready for worker in farm.staying) == 20


def test_the_hpa_goes_down_to_the_highest_of_five_minutes() -> None:
    farm = farm_of(8)
    asked = iter([6, *[2] * 50])

    class Falling:
        def wanted(self, replicas: int) -> int:
            return next(asked)

    Autoscaler(farm, lambda _: Falling(), pod_start_s=5)
    farm.env.run(16)
    assert len(farm.staying) == 6
    farm.env.run(15 + 299)
    assert len(farm.staying) == 6
    farm.env.run(15 + 300 + 16)
    assert len(farm.staying) == 3  # half of them in a minute
    farm.env.run(15 + 300 + 16 + 75)
    assert len(farm.staying) == 2


@pytest.mark.parametrize(("request_cores", "wanted"), [(1.0, 5), (0.5, 10)])
def test_cpu_saturates_at_what_a_pod_can_use(request_cores: float, wanted: int) -> None:
    arrivals = constant(100, length_s=60, seed=1)
    farm = Farm(arrivals, lambda _: takes(1, 1), Rules(), workers=4)
    signal = CpuSignal(farm, request_cores=request_cores)
    farm.env.run(31)  # a hundred times too much for them
    assert signal.wanted(4) == wanted == math.ceil(4 / (0.8 * request_cores))


def test_a_model_that_waits_shows_no_cpu_but_a_queue() -> None:
    arrivals = constant(10, length_s=60, seed=1)
    farm = Farm(arrivals, lambda _: takes(1, 0), Rules(), workers=1)
    cpu, queue = CpuSignal(farm, request_cores=1), QueueSignal(farm)
    farm.env.run(31)
    assert cpu.wanted(1) <= 1
    assert queue.wanted(1) > 200


def pace_after(*sizes: int) -> float | None:
    """Give the pace of a model that takes 20 ms for a batch and 1 ms for each instance."""
    pace = Pace()
    for size in sizes:
        pace.add(size, 0.02 + 0.001 * size)
    return pace.seconds_per_instance(64)


@pytest.mark.parametrize("sizes", [(1, 2) * 200, (1, 5, 9) * 9, (60, 64), (64,)])
def test_a_worker_announces_the_same_pace_whatever_batches_come(sizes: tuple[int, ...]) -> None:
    assert pace_after(*sizes) == pytest.approx(0.02 / 64 + 0.001)


def test_a_pace_is_no_better_than_what_was_seen_until_batches_differ() -> None:
    assert pace_after() is None
    assert pace_after(2, 2, 2) == pytest.approx(0.011)


def test_a_pace_follows_a_model_that_becomes_slower() -> None:
    pace = Pace()
    for seconds in [0.01] * 1000 + [0.05] * 300:
        pace.add(1, seconds)
    assert pace.seconds_per_instance(1) == pytest.approx(0.05, rel=0.05)


def metered(*counts: tuple[int, int]) -> Meter:
    """Give a gateway's meter after a sample a second of (asked, in flight)."""
    meter = Meter()
    for second, (asked, in_flight) in enumerate(counts):
        meter.add(Sample(second, asked, asked, in_flight))
    return meter


def wanted_by(meter: Meter, instance_s: float) -> float:
    """Give the runners that a meter asks for."""
    return meter.runners(instance_s, target_wait_s=10)


def test_demand_is_what_the_load_keeps_busy_and_what_clears_the_backlog_in_time() -> None:
    steady = metered(*((20 * second, 2) for second in range(31)))
    assert wanted_by(steady, 0.1) == pytest.approx(2)
    behind = metered(*((20 * second, 102) for second in range(31)))
    assert wanted_by(behind, 0.1) == pytest.approx(2 + 100 * 0.1 / 10)


def test_a_burst_that_is_gone_at_once_is_no_backlog() -> None:
    burst = metered(*((20 * second, 500 if second == 25 else 2) for second in range(31)))
    assert wanted_by(burst, 0.1) == pytest.approx(2)


def test_demand_is_zero_while_nobody_asks_and_wakes_a_model_of_unknown_pace() -> None:
    idle, first = metered(*[(0, 0)] * 30), metered((0, 0), (1, 1))
    assert wanted_by(idle, 0.1) == staff(0) == 0
    assert wanted_by(idle, 0) == 0
    assert wanted_by(first, 0) == 1
    assert wanted_by(first, 0.1) > 0


def test_demand_sees_a_busy_runner_where_the_queue_sees_one_bundle() -> None:
    arrivals = constant(9.5, length_s=120, seed=1)
    rules = Rules(max_batch_size=16, prefetch=4, fill_s=0.5, spare_s=0.5)
    farm = Farm(arrivals, lambda n: takes(0.1 * n), rules, workers=1)
    queue, demand = QueueSignal(farm), DemandSignal(farm, target_wait_s=7.5)
    farm.env.run(100.5)
    assert queue.wanted(1) <= 2 < demand.wanted(1)


def outcome(signal: str, p99_s: float, pods: float, refused: int = 0) -> Outcome:
    none = np.array([])
    return Outcome(
        "model", "step", signal, 8, 1, 1, 0, p99_s, refused, 0, pods, 9, none, none, []
    )  # fmt: skip


@pytest.mark.parametrize(
    ("demand", "is_held"),
    [
        (outcome("demand", 1.05, 10), True),
        (outcome("demand", 1.2, 10), False),
        (outcome("demand", 1.05, 10.1), False),
        (outcome("demand", 0.5, 9, refused=1), False),
    ],
)
def test_demand_is_held_against_the_better_signal(demand: Outcome, is_held: bool) -> None:
    (found,) = compare([outcome("CPU", 1, 10), outcome("queue", 2, 5), demand])
    assert found.better.signal == "CPU"
    assert found.is_held is found.is_as_known is is_held


def test_the_page_holds_demand_to_what_it_says() -> None:
    text = block(page.PAGE.read_text(encoding="utf-8"), "comparison")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines()[3:-1]]
    assert len(rows) == 16
    assert {(row[0], row[1]) for row in rows if row[5] == "no"} == MISSED


def costs() -> Costs:
    each = Cost(100, 1000)
    return Costs(
        gateway=each,
        broker=each,
        worker=each,
        runner=each,
        heard_us=200,
        passed_us=100,
        further_us=50,
        round_trip_s=0.006,
        queue_share=0.2,
    )


def test_on_paper_workers_times_gateways_is_what_announcements_grow_with() -> None:
    one = need(costs(), models=10, rate=100)
    assert one.announcements * EVERY_S == one.workers * one.gateways == 20
    deaf = need(costs(), models=10_000, rate=2000)  # 20,000 workers x 200 µs / 5 s: 0.8 of a core
    assert math.isinf(deaf.gateways)


def test_on_paper_thick_lanes_cost_less_than_thin_ones() -> None:
    thick = need(costs(), models=1, rate=10_000)
    thin = need(costs(), models=100, rate=10_000)
    assert thick.bundle > thin.bundle == 1
    assert thick.usd_per_million < thin.usd_per_million


def test_a_load_that_is_too_much_for_a_models_queue_is_called_not_reachable() -> None:
    rate = 1e6
    cells = cells_for(costs(), models=3, rate=rate)
    beyond = need(costs(), models=3, rate=rate, cells=cells)
    assert (cells, beyond.is_reachable) == (3, False)
    within = need(costs(), models=3, rate=100)
    first, second = page.paper([within, beyond]).splitlines()[2:]
    assert "not reachable" in second
    assert "not reachable" not in first


def test_what_is_said_to_come_from_the_charts_does() -> None:
    chart = Path("deploy/charts/modelyard-model")
    values = yaml.safe_load((chart / "values.yaml").read_text(encoding="utf-8"))
    scaling, worker = values["autoscaling"], values["worker"]
    charts = {
        "CPU_TARGET": scaling["targetCPUPercent"] / 100,
        "WORKER_CPU": int(worker["cpu"].removesuffix("m")) / 1000,
        "QUEUE_TARGET": scaling["queue"]["target"],
        "MIN_PODS": scaling["minReplicas"],
        "DOWN_WINDOW_S": scaling["scaleDownSeconds"],
    }
    said = {name: one.value for name, one in p.TABLE.items() if one.source == "the charts"}
    down = said.pop("DOWN_SHARE")
    formula = (chart / "templates" / "scaledobject.yaml").read_text(encoding="utf-8")
    root, share = said.pop("SPARE_ROOT"), said.pop("SPARE_SHARE")
    spare = f"demand + {root:g} * demand ** 0.5 + min({said.pop('SPARE'):g}, {share:g} * demand)"
    assert spare in formula
    assert said == charts
    for scaler in ("horizontalpodautoscaler", "scaledobject"):
        template = (chart / "templates" / f"{scaler}.yaml").read_text(encoding="utf-8")
        assert (
            f"{{type: Percent, value: {down:.0%}, periodSeconds: 60}}".replace("%", "") in template
        )
        assert scaler != "scaledobject" or "protocol: http\n" in template  # delivered ones too


def test_the_costs_that_were_measured_make_sense() -> None:
    found = costs_of(load())
    for cost in (found.gateway, found.broker, found.worker, found.runner):
        assert cost.bundle_us > 0
        assert cost.of(64) / 64 < cost.of(1)


def test_the_page_is_what_the_data_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    committed = page.PAGE.read_text(encoding="utf-8")
    blank = re.sub(r"(<!-- \S+: .*? -->\n).*?(<!-- end -->)", r"\1\2", committed, flags=re.DOTALL)
    assert page.origin() in committed, "the page is stale: make simulate"
    again = ("together", "apart", "checks", "trials", "slow_iris_model", "parameters")
    assert all(f"<!-- {name}:" in blank for name in again)
    for name in again:
        assert block(committed, name) != block(blank, name)
    monkeypatch.setattr(page, "PAGE", tmp_path / "scaling.md")
    monkeypatch.setattr(page, "FOLDER", tmp_path / "scaling")
    page.PAGE.write_text(blank, encoding="utf-8")
    assert main(["--only", "slow_iris_model"]) == 0
    made = page.PAGE.read_text(encoding="utf-8")
    for name in again:
        assert block(made, name) == block(committed, name), "the page is stale: make simulate"
    pictures = {"theory.png", "paper.png", "slow_iris_model.png"}
    assert {file.name for file in page.FOLDER.iterdir()} == pictures
    shown = set(re.findall(r"\]\(scaling/(\S+)\)", committed))
    assert shown == {file.name for file in (Path("docs") / "scaling").iterdir()} >= pictures


def block(text: str, name: str) -> str:
    """Give what stands between the markers of ``name``."""
    found = re.search(f"<!-- {name}: .*?<!-- end -->", text, re.DOTALL)
    assert found
    return found[0]
