"""The tables of ``docs/scaling.md``, which stand there between markers."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.processes import ROOT
from bench.simulate import parameters as p
from bench.simulate.checks import Agreement, Check, Wait
from bench.simulate.comparison import Comparison
from bench.simulate.data import FILE, Measured
from bench.simulate.paper import Costs, Need
from bench.simulate.scenarios import SUBJECTS, Outcome

PAGE = ROOT / "docs" / "scaling.md"
FOLDER = ROOT / "docs" / "scaling"
SIMULATING = (
    "arrivals",
    "autoscaler",
    "demand",
    "farm",
    "gateway",
    "parameters",
    "scenarios",
    "service",
    "worker",
)
NOT_REACHABLE = ", not reachable"
MARKED = "<!-- {name}: written by `make simulate` -->\n{text}\n<!-- end -->"


def put(page: str, name: str, text: str) -> str:
    """Give ``page`` with ``text`` between the markers of ``name``.

    Raises:
        ValueError: The page has no such markers.
    """
    block = MARKED.format(name=name, text=text)
    start = re.escape(f"<!-- {name}:")
    changed, count = re.subn(f"{start}.*?<!-- end -->", lambda _: block, page, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"{PAGE.name} has {count} places for {name}")
    return changed


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Give a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def fingerprint() -> str:
    """Give a digest of all that the simulated figures depend on."""
    files = [FILE, *(Path(__file__).with_name(f"{name}.py") for name in SIMULATING)]
    files += [ROOT / "src" / "modelyard" / "core" / f"{name}.py" for name in ("demand", "pace")]
    manifests = [ROOT / subject.folder / "model.toml" for subject in SUBJECTS]
    digest = hashlib.sha256()
    for file in [*files, *manifests]:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def origin() -> str:
    """Say what the page was made from."""
    return f"Made from data and code with the digest `{fingerprint()}`."


def parameters() -> str:
    """List the numbers that were not measured."""
    rows = []
    for name, one in p.TABLE.items():
        source = f"[source]({one.source})" if one.source.startswith("http") else one.source
        rows.append([f"`{name}`", f"{one.value:g} {one.unit}".strip(), one.what, source])
    return table(["name", "value", "what", "from"], rows)


def measured_times(measured: Measured) -> str:
    """List the service times."""
    rows = [
        [
            name,
            str(batch.rows),
            _ms(batch.runner_cpu_s),
            " / ".join(_ms(one) for one in batch.predict_s),
            f"{batch.rows / batch.runner_cpu_s:,.0f}",
        ]
        for name, times in measured.models.items()
        for batch in times.batches
    ]
    head = ["model", "rows a batch", "processor, ms", "in `predict` by the clock, ms", "rows/s"]
    about = ", ".join(measured.about[key] for key in ("date", "machine", "system", "Python"))
    busy = measured.about["busy before the run"]
    if how := measured.about.get("how"):
        busy += f"; {how}"
    starts = ", ".join(
        f"{name} {times.worker_start_s:.1f} s" for name, times in measured.models.items()
    )
    return (
        f"Measured: {about}; busy before the run: {busy}.\n"
        f"From the worker's command to its readiness: {starts}.\n\n" + table(head, rows)
    )


def levels(measured: Measured) -> str:
    """List what the cluster used per request, level by level."""
    head = ["connections", "requests a bundle", "gateway", "broker", "worker", "runner"]
    rows = [
        [str(one.connections), f"{one.requests_per_bundle:.1f}"]
        + [f"{us:,.0f} µs" for us in (one.gateway_us, one.broker_us, one.worker_us, one.runner_us)]
        for one in measured.levels
    ]
    return table(head, rows)


def costs(found: Costs) -> str:
    """List what one request, one bundle and one announcement cost."""
    names = ("gateway", "broker", "worker", "runner")
    parts = [found.gateway, found.broker, found.worker, found.runner]
    rows = [
        ["each request", *(f"{one.request_us:,.0f} µs" for one in parts)],
        ["each bundle", *(f"{one.bundle_us:,.0f} µs" for one in parts)],
        ["each announcement", "", f"{found.passed_us:,.0f} µs", "", ""],
        [
            "for each gateway that hears it",
            f"{found.heard_us:,.0f} µs",
            f"{found.further_us:,.0f} µs",
            "",
            "",
        ],
        [
            "so one core carries, one request a bundle",
            *(f"{1e6 / one.of(1):,.0f}/s" for one in parts),
        ],
        ["and 64 requests a bundle", *(f"{64e6 / one.of(64):,.0f}/s" for one in parts)],
    ]
    return table(["", *names], rows)


def checks(done: Sequence[tuple[Check, Wait]]) -> str:
    """List the closed forms and what the simulation gives."""
    rows = []
    for check, simulated in done:
        wanted = check.theory_s()
        rows.append(
            [
                check.name,
                f"{check.utilisation:.0%}",
                f"{wanted:.3f}",
                f"{simulated.mean_s:.3f} ± {simulated.error_s:.3f}",
                f"{simulated.mean_s / wanted - 1:+.1%}",
            ]
        )
    return table(
        ["queue", "utilisation", "mean wait by theory", "simulated ± its error", "difference"], rows
    )


def trials(done: Sequence[Agreement]) -> str:
    """List the product's trials beside their simulations."""
    rows = []
    for one in done:
        trial = one.trial
        load = trial.rate * 0.05 / trial.workers
        rows.append(
            [
                f"`{trial.shape}`, {trial.workers} runner{'s' * (trial.workers > 1)}, "
                f"batches of up to {trial.max_batch_size}",
                f"{load:.0%}",
                *(
                    f"{_ms(real)} / {_ms(model)}"
                    for real, model in (
                        (trial.mean_s, one.mean_s),
                        (trial.p50_s, one.p50_s),
                        (trial.p99_s, one.p99_s),
                    )
                ),
                str(trial.failures),
            ]
        )
    head = ["shape", "load", "mean, ms", "p50, ms", "p99, ms", "failures"]
    return "Each figure: measured / simulated.\n\n" + table(head, rows)


def scaling(outcomes: Sequence[Outcome]) -> str:
    """List one model's runs."""
    head = ["load", "signal", "p50, s", "p99, s", "refused (503)", "late (504)", "pods, mean"]
    return table([*head, "pods, most"], [scaling_row(outcome) for outcome in outcomes])


def scaling_row(one: Outcome) -> list[str]:
    """Give the row of one run."""
    return [
        one.shape,
        one.signal,
        _seconds(one.p50_s),
        _seconds(one.p99_s),
        _share(one.refused, one.requests),
        _share(one.expired, one.requests),
        f"{one.pods_mean:.1f}",
        str(one.pods_most),
    ]


def comparison(found: Sequence[Comparison]) -> str:
    """Hold demand against the better of the other two signals."""
    rows = [
        [
            one.demand.subject,
            one.demand.shape,
            one.better.signal,
            f"{one.slowness:.3f}",
            f"{one.more_pods:+.2f}",
            "yes" if one.is_held else "no",
        ]
        for one in found
    ]
    head = ["model", "load", "the better one", "p99, times its", "pods, beyond its", "held"]
    return table(head, rows)


def paper(needs: Sequence[Need]) -> str:
    """List what loads take."""
    head = ["models", "requests/s", "cells", "requests a bundle", "gateways", "workers"]
    head += ["broker nodes", "announcements/s", "cores", "USD per million", "nearest to its limit"]
    rows = [
        [
            f"{one.models:,}",
            f"{one.rate:,.0f}",
            str(one.cells),
            f"{one.bundle:.1f}",
            _count(one.gateways * one.cells),
            _count(one.workers * one.cells),
            _count(one.brokers * one.cells),
            _count(one.announcements),
            _count(one.cores),
            "" if math.isinf(one.cores) else f"{one.usd_per_million:.4f}",
            f"{one.first}: {one.loads[one.first]:.0%}" + NOT_REACHABLE * (not one.is_reachable),
        ]
        for one in needs
    ]
    return table(head, rows)


def models_work(measured: Measured) -> str:
    """List what the models themselves cost, one row a request."""
    rows = []
    for name, times in measured.models.items():
        best = min(batch.runner_cpu_s / batch.rows for batch in times.batches)
        alone = times.batches[0].runner_cpu_s
        usd = [p.CORE_HOUR_USD.value / 3600 * one * 1e6 / p.HEADROOM.value for one in (alone, best)]
        rows.append([name, _ms(alone), _ms(best), f"{usd[0]:.2g}", f"{usd[1]:.2g}"])
    head = ["model", "alone, ms a row", "in its best batch, ms a row"]
    return table([*head, "USD per million rows, alone", "in its best batch"], rows)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g}" if seconds < 0.1 else f"{seconds * 1000:,.0f}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2g}" if seconds < 0.1 else f"{seconds:.3g}"


def _share(count: int, of: int) -> str:
    if not count:
        return "0"
    return f"{count / of:.1%}" if count / of >= 0.001 else "< 0.1%"


def _count(number: float) -> str:
    return "none is enough" if math.isinf(number) else f"{math.ceil(number):,}"
