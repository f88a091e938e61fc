"""``modelyard batch``: predictions for all rows of a file, in another file.

What runs is noted beside the output, so that the same command, run again, goes on: it sends nothing
twice, and fetches what is left.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelyard.cli.asking import gateway_url
from modelyard.cli.call import CallError, gateway_at
from modelyard.cli.mistakes import UsageError, warn
from modelyard.cli.options import Commands

if TYPE_CHECKING:
    from modelyard.client import Batch, BatchInfo, Client

FAILED_ROWS = 3
"""The exit code if some rows have no prediction."""

_FORMATS = ("csv", "jsonl", "parquet", "arrow")
_SHOWN = 3  # failures that are told at the end


def add_batch(commands: Commands) -> None:
    """Add the command."""
    batch = commands.add_parser(
        "batch",
        help="predict all rows of a file",
        description="Sends a file of rows to a gateway, lets a model predict them beside other "
        "requests, and writes the predictions to OUTPUT, and rows that have none to "
        "OUTPUT.errors.jsonl. Run again after it was stopped, it goes on.",
        epilog="Exit codes: 0 all rows have predictions, 3 some have none, 2 there is no output.",
    )
    batch.add_argument("model", metavar="MODEL")
    batch.add_argument("input", metavar="INPUT", type=Path, help="CSV, JSON Lines, Parquet, Arrow")
    batch.add_argument("output", metavar="OUTPUT", type=Path, help="in any of these")
    batch.add_argument("--version", help="a version, or an alias")
    batch.add_argument(
        "--columns", metavar="A,B", help="what a model of lists takes, in this order (all)"
    )
    batch.add_argument("--keep", metavar="A,B", help="columns that the output repeats")
    batch.add_argument("--format", choices=_FORMATS, help="of INPUT, if its name does not say it")
    batch.add_argument("--output-format", choices=_FORMATS, help="of OUTPUT, likewise")
    batch.add_argument("--restart", action="store_true", help="begin again from the first row")
    batch.add_argument("--url", help="URL of the gateway (http://127.0.0.1:8000)")
    batch.set_defaults(run=run_batch)


def run_batch(options: argparse.Namespace) -> int:
    """Predict all rows; returns the exit code."""
    from modelyard.client.batches import FORMATS

    if not options.input.is_file():
        raise UsageError(f"{options.input} is no file that can be read")
    if not options.output.parent.is_dir():
        raise UsageError(f"{options.output.parent} is no folder")
    for path in (options.output, _errors_of(options.output)):
        if path.exists() and path.samefile(options.input):
            raise UsageError(f"{path} is the input, and would be written to: name another OUTPUT")
    for path, given in ((options.input, options.format), (options.output, options.output_format)):
        if given is None and path.suffix[1:].lower() not in FORMATS:
            raise UsageError(f"{path}: say its format; the name does not ({', '.join(_FORMATS)})")
    note = Path(f"{options.output}.batch.json")
    with gateway_at(gateway_url(options)) as client:
        batch = _found_or_sent(client, options, note)
        info = _watched(batch)
        if info.state != "succeeded":
            note.unlink(missing_ok=True)
            why = f": {info.error.code}: {info.error.detail}" if info.error is not None else ""
            raise CallError(f"the bulk run {batch.id} has {info.state}{why}")
        batch.download(options.output)
        errors = _errors_of(options.output)
        if info.rows.failed:
            batch.download(errors, "errors")
        else:
            errors.unlink(missing_ok=True)
    note.unlink(missing_ok=True)
    _tell_end(info, options.output, errors)
    return FAILED_ROWS if info.rows.failed else 0


def _errors_of(output: Path) -> Path:
    return Path(f"{output}.errors.jsonl")


def _found_or_sent(client: Client, options: argparse.Namespace, note: Path) -> Batch:
    """Return the run that was begun before, or begin one."""
    from modelyard.client import JobNotFound
    from modelyard.client.batches import FORMATS, new_id

    said = _said(options)
    known = _read(note)
    if known is not None and known.get("said") == said and not options.restart:
        batch = client.find_batch(str(known["id"]))
        with contextlib.suppress(JobNotFound):
            state = batch.info().state
            if state in ("queued", "running", "succeeded"):
                print(f"going on with {batch.id}, which is {state}", file=sys.stderr)
                return batch
    batch_id = new_id()
    for part in (options.output, _errors_of(options.output)):
        part.with_name(f"{part.name}.part").unlink(missing_ok=True)
    _write(note, {"id": batch_id, "said": said})
    output = options.output_format or FORMATS[options.output.suffix[1:].lower()]
    try:
        return client.batch(
            options.model,
            options.input,
            version=options.version,
            format=options.format,
            output_format=output,
            columns=_names(options.columns),
            keep=_names(options.keep),
            id=batch_id,
        )
    except BaseException as error:
        from modelyard.client import ModelyardError

        if isinstance(error, ModelyardError) and error.status is not None:
            note.unlink(missing_ok=True)  # it was refused
        raise


def _write(note: Path, content: dict[str, Any]) -> None:
    part = note.with_name(f"{note.name}.part")
    part.write_text(json.dumps(content))
    part.replace(note)  # whole, or not at all


def _said(options: argparse.Namespace) -> list[Any]:
    """Return what makes it another run: the same file with another content is one."""
    found = options.input.stat()
    names = ("model", "version", "columns", "keep", "format", "output_format")
    return [
        *(str(options.input.absolute()), found.st_size, found.st_mtime_ns),
        *(getattr(options, name) for name in names),
    ]


def _read(note: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(note.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "id" in found else None


def _names(given: str | None) -> list[str]:
    return [name for part in (given or "").split(",") if (name := part.strip())]


def _watched(batch: Batch) -> BatchInfo:
    """Wait for the run's end, and show how far it is."""
    from modelyard.display import progress_of

    with progress_of() as show:
        return batch.wait(on_progress=lambda info: show(_line_of(info), info.progress))


def _line_of(info: BatchInfo) -> str:
    parts = [f"{info.rows.done:,} rows"]
    if info.rows.failed:
        parts.append(f"{info.rows.failed:,} failed")
    if info.rows_per_s:
        parts.append(f"{info.rows_per_s:,.0f}/s")
    if info.remaining_s is not None and not info.is_over:
        parts.append(f"{_span(info.remaining_s)} left")
    return f"{info.state}: {', '.join(parts)}"


def _tell_end(info: BatchInfo, output: Path, errors: Path) -> None:
    spent_s = (info.finished or time.time()) - (info.started or info.created)
    print(
        f"{output}: {info.cost.instances:,} predictions in {_span(spent_s)}, "
        f"{info.cost.model_s:.1f} s of the model's time"
    )
    if info.rows.failed:
        warn(f"{info.rows.failed:,} rows have no prediction; {errors} says why")
        for line in _first(errors):
            failure = json.loads(line)
            warn(f"  row {failure['row']}: {failure['code']}: {failure['detail']}")


def _first(errors: Path) -> Iterator[str]:
    with errors.open(encoding="utf-8") as lines:
        for _, line in zip(range(_SHOWN), lines, strict=False):
            yield line


def _span(seconds: float) -> str:
    """Return a span of time for people."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
