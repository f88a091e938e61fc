"""What a run leaves behind: tables on the terminal, and files beside each other in a folder."""

from __future__ import annotations

import shutil
import statistics
from collections import Counter, defaultdict
from pathlib import Path

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.chaos.ledger import CALM
from tests.chaos.plot import draw
from tests.chaos.run import Happened, Run

MUST_BE_0 = {
    "lost": "no answer came",
    "wrong": "an answer that is not f(nonce), or someone else's",
    "duplicate": "an answer that nobody waited for, or a second one",
    "status": "none of 200, 503, 504 (502 for poison)",
    "stuck": "no 200 within a minute of the healing, or the run broke off",
    "leak": "something did not go back to what it was",
    "exit": "a process ended, or ended badly",
    "log": "a defect shows in a log",
}
SHOWN = 12


def write_files(run: Run, folder: Path) -> Path:
    """Write plot, figures and logs into ``folder``; gives the plot's path."""
    folder.mkdir(parents=True, exist_ok=True)
    ledger = run.ledger
    figures = {
        "seed": run.seed,
        "sent": ledger.sent,
        "statuses": ledger.statuses,
        "refusals": ledger.refusals,
        "cache": ledger.cache,
        "moved": ledger.moved,
        "latest_after_deadline_s": ledger.latest_s,
        "violations": ledger.violations,
        "faults": run.happened,
        "statuses_by_fault": ledger.by_fault,
        "statuses_by_second": ledger.seconds,
        "quiet": run.quiet,
        "resources": run.resources.samples,
        "growth_mib_per_hour": run.growth,
    }
    encoded = msgspec.json.format(msgspec.json.encode(figures), indent=1)
    (folder / f"seed-{run.seed}.json").write_bytes(encoded)
    logs = folder / f"seed-{run.seed}.logs"
    shutil.rmtree(logs, ignore_errors=True)  # an earlier run's of the same seed
    logs.mkdir()
    for name, pid, output in run.logs:
        (logs / f"{name.replace(' ', '-')}-{pid}.log").write_text(output)
    plot = folder / f"seed-{run.seed}.png"
    draw(run, plot)
    return plot


def print_tables(run: Run, console: Console) -> None:
    """Print the ledger, the faults and the violations."""
    console.print(_requests(run), _faults(run), _verdicts(run))
    for violation in run.ledger.violations[:SHOWN]:
        console.print(
            f"[red]{violation.kind}[/red] at {violation.at_s:.1f} s ({violation.meanwhile}):",
            escape(violation.what),
            highlight=False,
        )
    if len(run.ledger.violations) > SHOWN:
        console.print(f"… and {len(run.ledger.violations) - SHOWN} more in the JSON")


def _requests(run: Run) -> Table:
    ledger = run.ledger
    outcomes = sorted({key for counts in ledger.statuses.values() for key in counts})
    table = Table(title=f"Requests, seed {run.seed}", title_justify="left")
    for heading in ("clients", "sent", *outcomes):
        table.add_column(heading, justify="left" if heading == "clients" else "right")
    for role, sent in ledger.sent.items():
        counts = ledger.statuses[role]
        table.add_row(role, str(sent), *(str(counts[outcome] or "") for outcome in outcomes))
    refusals = _listed(Counter(refusal.code for refusal in ledger.refusals))
    cache = _listed(ledger.cache)
    table.caption = (
        f"Refused: {refusals or 'none'}. Cache: {cache}. Asked again at another gateway, since "
        f"theirs was told to stop: {ledger.moved}. The latest answer came {ledger.latest_s:g} s "
        f"{'after' if ledger.latest_s > 0 else 'from'} its deadline."
    )
    table.caption_justify = "left"
    return table


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.most_common())


def _faults(run: Run) -> Table:
    table = Table(title="Faults", title_justify="left", caption_justify="left")
    table.add_column("fault")
    table.add_column("times", justify="right")
    table.add_column("first 200", justify="right")
    table.add_column("last refusal", justify="right")
    table.add_column("answers to what was sent meanwhile")
    by_name: dict[str, list[Happened]] = defaultdict(list)
    for happened in run.happened:
        by_name[happened.name].append(happened)
    for name, cases in sorted(by_name.items()):
        first = [max(case.first_200_s.values(), default=60.0) for case in cases]
        last = [case.last_refusal_s for case in cases]
        seen = _listed(run.ledger.by_fault[name])
        table.add_row(name, str(len(cases)), _middle_and_most(first), _middle_and_most(last), seen)
    table.add_row("none", "", "", "", _listed(run.ledger.by_fault[CALM]))
    table.caption = (
        "Seconds after the fault was healed, median and longest: until both gateways had given a "
        "200 that was no cache hit; until the last 503 or 504 to what was sent after the healing."
    )
    return table


def _middle_and_most(times_s: list[float]) -> str:
    return f"{statistics.median(times_s):.2f}, {max(times_s):.2f}"


def _verdicts(run: Run) -> Table:
    table = Table(title="Must be 0", title_justify="left", caption_justify="left")
    table.add_column("what")
    table.add_column("count", justify="right")
    table.add_column("meaning")
    for kind, meaning in MUST_BE_0.items():
        count = run.ledger.count(kind)
        table.add_row(kind, f"[{'red' if count else 'green'}]{count}[/]", meaning)
    growth = ", ".join(f"{name} {rate:+g}" for name, rate in run.growth.items())
    table.caption = (
        f"{len(run.resources.samples)} samples of what is held while quiet. Memory, MiB per hour, "
        f"of processes in six samples or more: {growth or 'none lived so long'}."
    )
    return table
