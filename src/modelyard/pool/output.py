"""A runner's standard output and error, read line by line while it runs.

Both are one pipe. A runner that prints without end costs little: lines over the limit are counted,
but not split and logged. What the runner itself logs, such as the traceback of what a model raised,
has a limit of its own: nothing that a model prints can push it out.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from modelyard.core.records import LONGEST_MESSAGE, OWN_RECORD, RECORD_MARK, decode_record

log = logging.getLogger(__name__)

LINES_PER_WINDOW = 100
WINDOW_S = 1.0
LONGEST_LINE_BYTES = 16 * 1024
LAST_LINES = 20

_READ_BYTES = 64 * 1024
_LAST_BYTES = 16 * 1024
_MOST_READS = 16  # in one go; each reads up to the default size of a pipe
_MARK = RECORD_MARK.encode()


class Line(NamedTuple):
    """A line of text, or a record of the runner's logging.

    ``level`` is the number of a level in ``logging``; printed text is at INFO. ``inputs``:
    positions, in the running batch, of the requests that a record is about; none if it may be about
    any of them; None if it is about no request.
    """

    text: str
    level: int = logging.INFO
    logger: str = ""
    trace: str = ""
    inputs: tuple[int, ...] | None = ()


def log_line(line: Line, *, model: str, ids: Sequence[str], trace_ids: Sequence[str] = ()) -> None:
    """Log a line under the model's name.

    ``ids``: of the requests in the running batch, in order. A record about some of them is logged
    with their ids; any other line is logged with all of them, unless it is about none.
    ``trace_ids``: of their traces; empty strings for those that have none.
    """
    about: list[int] = []
    if line.inputs is not None:
        about = [n for n in line.inputs if n < len(ids)] or list(range(len(ids)))
    traces = dict.fromkeys(trace_ids[n] for n in about if n < len(trace_ids) and trace_ids[n])
    extra: dict[str, object] = {"model": model, "text": line.text}
    extra |= {"source": line.logger} if line.logger else {}
    extra |= {"ids": [ids[n] for n in about]} if about else {}
    extra |= {"trace_ids": list(traces)} if traces else {}
    extra |= {"trace": line.trace} if line.trace else {}
    log.log(line.level, "model_output", extra=extra)


class RunnerOutput:
    """The reading end of a runner's output.

    Args:
        fd: File descriptor of the pipe. It is closed by ``close``.
        on_line: Called with each line.
        lines_per_window: Most lines passed on in ``window_s`` seconds; as many again of the
            runner's own records. The number of dropped lines is reported at the end of the window.
    """

    def __init__(
        self,
        fd: int,
        on_line: Callable[[Line], None],
        *,
        lines_per_window: int = LINES_PER_WINDOW,
        window_s: float = WINDOW_S,
    ) -> None:
        self._fd = fd
        self._on_line = on_line
        self._lines_per_window = lines_per_window
        self._window_s = window_s
        self._window_ends = 0.0
        self._left = self._own_left = 0
        self._dropped = 0
        self._report: asyncio.TimerHandle | None = None
        self._rest = b""  # the unfinished last line
        self._recent = bytearray()
        self._is_open = True
        self._loop = asyncio.get_running_loop()
        os.set_blocking(fd, False)
        self._loop.add_reader(fd, self._read)

    def drain(self) -> None:
        """Read what the pipe holds now. A runner logs before it answers, but the event loop may see
        the answer first.
        """
        for _ in range(_MOST_READS):
            if not self._read():
                return

    def last_lines(self) -> list[str]:
        """Return the last lines, including dropped ones."""
        whole = bytes(self._recent)
        if len(whole) == _LAST_BYTES:
            whole = whole.partition(b"\n")[2]  # starts in the middle of a line
        texts: list[str] = []
        for piece in whole.split(b"\n"):
            for line in _lines_in(piece):
                texts += [line.text, *line.trace.splitlines()]
        return texts[-LAST_LINES:]

    def close(self) -> None:
        """Read what is left and close the pipe."""
        if not self._is_open:
            return
        self.drain()
        self._end()
        self._loop.remove_reader(self._fd)
        self._is_open = False
        os.close(self._fd)

    def _read(self) -> bool:
        """Read once; return whether there may be more (also called by the loop)."""
        if not self._is_open:
            return False
        try:
            chunk = os.read(self._fd, _READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return False
        if not chunk:  # all writers have closed it
            self._loop.remove_reader(self._fd)
            self._end()
            return False
        self._recent += chunk
        del self._recent[:-_LAST_BYTES]
        self._cut(self._rest + chunk)
        return True

    def _cut(self, text: bytes) -> None:
        """Pass on the lines in ``text``, up to the limit; keep the unfinished last one."""
        room = self._room()
        *lines, rest = text.split(b"\n", room)
        for line in lines:
            self._tell(line)
        if dropped := rest.count(b"\n"):
            end = rest.rindex(b"\n") + 1
            dropped -= self._tell_own(rest[:end])
            rest = rest[end:]
            if dropped:
                self._drop(dropped)
        # A progress bar never ends its line: it returns to the start and overwrites it.
        start = rest.rfind(b"\r", 0, max(0, len(rest) - 1)) + 1
        self._rest = rest[start : start + LONGEST_LINE_BYTES + 1]

    def _room(self) -> int:
        now = self._loop.time()
        if now >= self._window_ends:
            self._report_dropped()
            self._window_ends = now + self._window_s
            self._left = self._own_left = self._lines_per_window
        return self._left

    def _tell(self, piece: bytes) -> None:
        for line in _lines_in(piece):
            self._left = max(0, self._left - 1)
            self._on_line(line)

    def _tell_own(self, text: bytes) -> int:
        """Pass on the runner's own records among lines over the limit; return how many."""
        told, found = 0, text.find(OWN_RECORD)
        while found >= 0 and self._own_left:
            start, end = text.rfind(b"\n", 0, found) + 1, text.index(b"\n", found)
            mark = text.find(_MARK, start, found)
            if mark >= 0:
                for line in _lines_in(text[mark:end]):
                    self._on_line(line)
                self._own_left -= 1
                told += 1
            found = text.find(OWN_RECORD, end)
        return told

    def _drop(self, count: int) -> None:
        self._dropped += count
        if self._report is None:
            self._report = self._loop.call_at(self._window_ends, self._report_dropped)

    def _report_dropped(self) -> None:
        if self._report is not None:
            self._report.cancel()
            self._report = None
        dropped, self._dropped = self._dropped, 0
        if dropped:
            limit = f"more than {self._lines_per_window} in {self._window_s:g} s"
            text = f"{dropped} lines were dropped: {limit}"
            self._on_line(Line(text, logging.WARNING, inputs=None))

    def _end(self) -> None:
        """Pass on the unfinished last line: no more will come."""
        rest, self._rest = self._rest, b""
        self._tell(rest)
        self._report_dropped()


def _lines_in(piece: bytes) -> list[Line]:
    """Return the contents of a line: text, a record, or unfinished text followed by a record."""
    text, mark, rest = piece.partition(_MARK)
    lines = [Line(text=cleaned)] if (cleaned := _clean(text)) else []
    if not mark:
        return lines
    record = decode_record(rest)
    if record is None:
        return [*lines, Line(text=_clean(rest))]
    return [
        *lines,
        Line(record.message, record.level, record.logger, record.trace, tuple(record.inputs)),
    ]


def _clean(raw: bytes) -> str:
    """Return the text, at bounded length, without what a progress bar has overwritten."""
    visible = raw.rstrip(b"\r").rpartition(b"\r")[2]
    text = visible.decode(errors="backslashreplace").rstrip()
    return text if len(text) <= LONGEST_MESSAGE else text[:LONGEST_MESSAGE] + "…"
