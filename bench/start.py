"""From the command to three models that are ready."""

from __future__ import annotations

from pathlib import Path

from bench.rows import Limit, Plan, Row, row, tell
from bench.subjects import ALL_MODELS, check_answers, check_ready, modelyard


def measure_start(plan: Plan, logs: Path) -> list[Row]:
    """Start and stop the server a few times."""
    seconds = []
    for number in range(plan.starts):
        tell(f"start {number + 1} of {plan.starts}")
        with modelyard(logs, f"start {number + 1}", "models", is_cached=True) as server:
            seconds.append(server.started_in_s)
            check_ready(server)
            check_answers(server, *ALL_MODELS)
    what = "start: from the command to three models ready"
    return [row(what, seconds, "{:.2f} s", Limit("<", 3))]
