"""What ``modelyard serve`` shows: models that start, live on a terminal and as plain lines
elsewhere; a request to try; what is still being finished when it is told to stop.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

from modelyard.core.messages import Announcement
from modelyard.core.names import Target

if TYPE_CHECKING:
    from rich.console import RenderableType


LINES_EVERY_S = 10.0
LONGEST_TRIED = 600  # characters of a request that a terminal shows


STATES = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}


class Display(Protocol):
    """Shows each model's start."""

    def show(self, announcement: Announcement) -> None:
        """A target has changed."""
        ...

    def settle(self, url: str, *, wants_key: bool = False) -> None:
        """Every model has loaded or failed to; the API is at ``url``, and may want a key."""
        ...


class PlainDisplay:
    """A line per change of a model's state."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._known: dict[Target, Announcement] = {}

    def show(self, announcement: Announcement) -> None:
        """Print a line if the state is another one, or what a start waits for."""
        known = self._known.get(announcement.target)
        self._known[announcement.target] = announcement
        is_waiting = announcement.state == "starting" and bool(announcement.reason)
        is_news = known is None or known.state != announcement.state
        if is_news or (is_waiting and known is not None and known.reason != announcement.reason):
            seconds = time.monotonic() - self._started
            reason = announcement.operator_reason
            reason = f"  {reason}" if reason else ""
            say(f"{announcement.state:10} {announcement.target}  {seconds:.1f} s{reason}")

    def settle(self, url: str, *, wants_key: bool = False) -> None:
        """Print the address and a request that works."""
        say(farewell(url, list(self._known.values()), wants_key=wants_key))


def say(text: str) -> None:
    """Print a line at once, if anybody still reads."""
    with contextlib.suppress(OSError):  # no reason to stop serving
        print(text, flush=True)


class LiveDisplay:
    """One line per model, redrawn in place until all have settled."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.spinner import Spinner

        self._spinner = Spinner("dots", style="yellow")
        self._started = time.monotonic()
        self._known: dict[Target, Announcement] = {}
        self._seconds: dict[Target, float] = {}
        self._console = Console(highlight=False)
        self._live = Live(console=self._console, get_renderable=self._draw, refresh_per_second=12)
        self._live.start()

    def show(self, announcement: Announcement) -> None:
        """Redraw; after the start, print changes as lines."""
        known = self._known.get(announcement.target)
        self._known[announcement.target] = announcement
        if known is not None and known.state == announcement.state:
            return
        self._seconds[announcement.target] = time.monotonic() - self._started
        if not self._live.is_started:
            reason = announcement.operator_reason
            reason = f": {reason}" if reason else ""
            with contextlib.suppress(OSError):  # nobody reads any more
                self._console.print(
                    f"{announcement.target} is {announcement.state}{reason}", markup=False
                )

    def settle(self, url: str, *, wants_key: bool = False) -> None:
        """Leave the last picture standing; print the address and a request that works."""
        self._live.stop()
        text = farewell(url, list(self._known.values()), wants_key=wants_key)
        self._console.print(text, soft_wrap=True, markup=False)

    def _draw(self) -> RenderableType:
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        for target, known in self._known.items():
            elapsed = time.monotonic() - self._started
            mark: RenderableType
            if known.state == "starting":
                mark, seconds = self._spinner, f"{elapsed:.1f} s"
            elif known.state == "failed":
                mark, seconds = Text("✗", style="red"), ""
            else:
                mark, seconds = Text("✓", style="green"), f"{self._seconds[target]:.1f} s"
            style = "red" if known.state == "failed" else "yellow"
            reason = known.operator_reason
            note = Text(reason, style=style) if reason else Text(known.description)
            table.add_row(mark, target.name, target.version, known.state, seconds, note)
        return table


def make_display() -> Display:
    """Return the display that fits standard output."""
    with contextlib.suppress(ImportError):
        if sys.stdout is not None and sys.stdout.isatty():  # None: closed
            return LiveDisplay()
    return PlainDisplay()


@contextlib.contextmanager
def progress_of() -> Iterator[Callable[[str, float | None], None]]:
    """Give what shows on standard error how far something is: a bar on a terminal, and elsewhere a
    line every ten seconds. It takes a line, and the part that is done, if that is known.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield _Lines().show
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), BarColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)

        def show(line: str, done: float | None) -> None:
            total = None if done is None else 1.0
            progress.update(task, description=line, total=total, completed=done or 0.0)

        yield show


class _Lines:
    """A line every now and then."""

    def __init__(self) -> None:
        self._told: float | None = None

    def show(self, line: str, done: float | None) -> None:
        """Print a line, if the last one is long ago."""
        now = time.monotonic()
        if self._told is None or now - self._told >= LINES_EVERY_S:
            self._told = now
            part = "" if done is None else f"{done:4.0%} "
            print(f"{part}{line}", file=sys.stderr, flush=True)


def farewell(url: str, known: list[Announcement], *, wants_key: bool = False) -> str:
    """Return the address, and a line to try: a request to the first model that has a short example,
    else one that fetches the example, for it may have a megabyte. ``wants_key``: with the key that
    the commands use as well.
    """
    lines = [f"\nModelyard is at {url}  (documentation: {url}/docs)"]
    examples = [
        (model.target.name, model.schema.example)
        for model in known
        if model.state == "ready" and model.schema is not None and model.schema.example != b"null"
    ]
    short = [example for example in examples if len(example[1]) <= LONGEST_TRIED]
    get = "curl -s" + (' -H "x-api-key: $MODELYARD_API_KEY"' if wants_key else "")
    post = f"{get} {url}/predict -H 'content-type: application/json'"
    if short:
        name, example = short[0]
        body = json.dumps({"model_name": name, "input_data": json.loads(example)})
        body = body.replace("'", "'\\''")
        lines += ["Try:", f"  {post} -d '{body}'"]
    elif examples:
        lines += ["Try:", f"  {get} {url}/models/{examples[0][0]}/example | {post} -d @-"]
    elif not any(model.state in ("ready", "asleep") for model in known):
        lines.append("No model is up; the reasons are above and at /readyz.")
    return "\n".join(lines)


def stopping(in_flight: int, *, drain_s: float) -> str:
    """Return the message of a process that finishes its requests before it stops."""
    requests = "1 request" if in_flight == 1 else f"{in_flight} requests"
    return f"Finishing {requests}, for {drain_s:g} s at most; Ctrl-C ends at once."


class Found(Protocol):
    """Something that was looked at (``doctor.finding.Finding``)."""

    @property
    def check(self) -> str: ...
    @property
    def state(self) -> Literal["ok", "warn", "fail"]: ...
    @property
    def what(self) -> str: ...
    @property
    def do(self) -> str: ...


def say_findings(found: Sequence[Found]) -> None:
    """Print what was found: in colours on a terminal, and as plain lines elsewhere."""
    counts = {state: sum(one.state == state for one in found) for state in STATES}
    summary = f"{counts['ok']} ok, {counts['warn']} to look at, {counts['fail']} that will not work"
    width = max((len(one.check) for one in found), default=0)
    if sys.stdout is None or not sys.stdout.isatty():
        for one in found:
            say(f"{one.state:4}  {one.check:{width}}  {one.what}")
            if one.do:
                say(f"{'':4}  {'':{width}}  do: {one.do}")
        say(summary)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    last = ""
    for one in found:
        mark, style = STATES[one.state]
        text = Text(one.what)
        if one.do:
            text.append(f"\n→ {one.do}", style=style)
        name = "" if one.check == last else one.check
        table.add_row(Text(mark, style=style), Text(name, style="bold"), text)
        last = one.check
    console = Console(highlight=False)
    console.print(table)
    worst = max(found, key=lambda one: list(STATES).index(one.state), default=None)
    console.print(Text(f"\n{summary}", style=STATES[worst.state][1] if worst else ""))
