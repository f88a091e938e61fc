"""``modelyard jobs``: looks at the jobs of a gateway, and changes them."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from modelyard.cli.asking import gateway_url
from modelyard.cli.call import gateway_at
from modelyard.cli.options import Commands
from modelyard.cli.telling import print_table, tell_moment

if TYPE_CHECKING:
    from modelyard.client import JobInfo

STATES = ("queued", "running", "succeeded", "failed", "cancelled", "expired")
HEADS = ("JOB", "MODEL", "STATE", "CREATED", "ATTEMPTS", "WHY")
_LONGEST_WHY = 60


def add_jobs(commands: Commands) -> None:
    """Add the commands."""
    jobs = commands.add_parser(
        "jobs",
        help="list, show, cancel and retry jobs",
        description="Jobs of a gateway: requests that it keeps, and answers later.",
    )
    actions = jobs.add_subparsers(title="actions", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="list jobs, the newest first")
    listing.add_argument("--state", choices=STATES, help="only these; failed: dead letters")
    listing.add_argument("--model", help="only those of a model")
    listing.add_argument("--limit", type=int, default=20, help="how many (20)")
    listing.set_defaults(run=list_jobs)
    show = actions.add_parser("show", help="show a job, and where it stands")
    show.set_defaults(run=show_job)
    cancel = actions.add_parser("cancel", help="end jobs")
    cancel.set_defaults(run=cancel_jobs)
    retry = actions.add_parser("retry", help="queue jobs again that have failed")
    retry.set_defaults(run=retry_jobs)
    for command in (listing, show):
        command.add_argument("--json", action="store_true", help="the same for programs")
    show.add_argument("job", metavar="JOB")
    for command in (cancel, retry):
        command.add_argument("jobs", nargs="+", metavar="JOB")
    for command in (listing, show, cancel, retry):
        command.add_argument("--url", help="URL of the gateway (http://127.0.0.1:8000)")


def list_jobs(options: argparse.Namespace) -> None:
    """Print jobs, the newest first."""
    with gateway_at(gateway_url(options)) as client:
        found = client.jobs(state=options.state, model=options.model, limit=options.limit)
    if options.json:
        print(_json(found))
    else:
        print_table([HEADS, *map(_row_of, found)])


def show_job(options: argparse.Namespace) -> None:
    """Print all that is known of a job."""
    with gateway_at(gateway_url(options)) as client:
        found = client.job(options.job).info()
    if options.json:
        print(_json(found))
        return
    rows = [("FIELD", "VALUE")]
    for name in found.__struct_fields__:
        value = getattr(found, name)
        if value is not None and value != "":
            rows.append((name, _tell(name, value)))
    print_table(rows)


def cancel_jobs(options: argparse.Namespace) -> None:
    """End jobs."""
    with gateway_at(gateway_url(options)) as client:
        for job in options.jobs:
            print(f"{job}: {client.job(job).cancel().state}")


def retry_jobs(options: argparse.Namespace) -> None:
    """Queue jobs again."""
    with gateway_at(gateway_url(options)) as client:
        for job in options.jobs:
            print(f"{job}: {client.job(job).retry().state}")


def _row_of(job: JobInfo) -> tuple[str, ...]:
    version = f"/{job.model_version}" if job.model_version else ""
    why = "" if job.error is None else f"{job.error.code}: {job.error.detail}"
    return (
        job.id,
        job.model_name + version,
        job.state if job.is_over or job.progress is None else f"{job.state} {job.progress:.0%}",
        tell_moment(job.created),
        f"{job.attempts} ({job.failures} failed)" if job.failures else str(job.attempts),
        why if len(why) <= _LONGEST_WHY else f"{why[:_LONGEST_WHY]}…",
    )


def _tell(name: str, value: object) -> str:
    if name in ("created", "ready_at", "deadline", "started", "finished"):
        return tell_moment(float(str(value)))
    if name == "progress":
        return f"{value:.0%}"
    if name == "error":
        code, detail, where = (getattr(value, part) for part in ("code", "detail", "where"))
        return f"{code}: {detail}" + (f" at {where}" if where else "")
    return str(value)


def _json(found: object) -> str:
    import msgspec

    return json.dumps(msgspec.to_builtins(found), indent=2)
