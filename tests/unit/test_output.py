"""What a runner prints: cut into lines, labelled, bounded, and kept for when it dies."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator

import pytest

from modelyard.core.records import LONGEST_MESSAGE, Record, encode_record
from modelyard.pool.output import LAST_LINES, Line, RunnerOutput, log_line


class Pipe:
    """A pipe with a RunnerOutput at its end, and what that has told."""

    def __init__(self, *, lines_per_window: int = 100, window_s: float = 60) -> None:
        reading, self.writing = os.pipe()
        self.lines: list[Line] = []
        self._told = asyncio.Event()
        self.output = RunnerOutput(
            reading, self._tell, lines_per_window=lines_per_window, window_s=window_s
        )

    @property
    def texts(self) -> list[str]:
        return [line.text for line in self.lines]

    def _tell(self, line: Line) -> None:
        self.lines.append(line)
        self._told.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for lines until the condition holds."""
        while not condition():
            self._told.clear()
            await asyncio.wait_for(self._told.wait(), 60)

    def write(self, text: bytes) -> None:
        """Write all of it, reading what does not fit."""
        while text:
            text = text[os.write(self.writing, text[:4096]) :]
            self.output.drain()

    def end(self) -> None:
        if self.writing >= 0:
            os.close(self.writing)
            self.writing = -1
        self.output.close()


@pytest.fixture
async def open_pipe() -> Iterator[Callable[..., Pipe]]:  # type: ignore[misc]
    """Make pipes that are closed in the end."""
    pipes: list[Pipe] = []

    def make(**limits: float) -> Pipe:
        pipes.append(Pipe(**limits))  # type: ignore[arg-type]
        return pipes[-1]

    yield make
    for pipe in pipes:
        pipe.end()


async def test_lines_are_told_as_they_come(open_pipe: Callable[..., Pipe]) -> None:
    pipe = open_pipe()
    os.write(pipe.writing, "hello\nZoë \xff".encode("latin-1") + b"\n\n  \nhalf")
    await pipe.until(lambda: len(pipe.lines) == 2)
    os.write(pipe.writing, b" a line\n")
    await pipe.until(lambda: len(pipe.lines) == 3)
    assert pipe.texts == ["hello", "Zo\\xeb \\xff", "half a line"]
    assert {(line.level, line.logger) for line in pipe.lines} == {(logging.INFO, "")}


async def test_what_has_no_end_is_told_when_nobody_writes_any_more(
    open_pipe: Callable[..., Pipe],
) -> None:
    pipe = open_pipe()
    os.write(pipe.writing, b"Segmentation fault")
    os.close(pipe.writing)
    pipe.writing = -1
    await pipe.until(lambda: pipe.texts == ["Segmentation fault"])
    pipe.output.close()
    pipe.output.drain()
    assert pipe.texts == ["Segmentation fault"]


async def test_a_record_keeps_level_logger_trace_and_inputs(
    open_pipe: Callable[..., Pipe],
) -> None:
    pipe = open_pipe()
    record = Record("it broke\ntwice", logging.ERROR, "model.inner", "Traceback\n  here", [2, 5])
    pipe.write(b"not finished" + encode_record(record).encode() + b"\n")
    told = Line("it broke\ntwice", logging.ERROR, "model.inner", "Traceback\n  here", (2, 5))
    assert pipe.lines == [Line("not finished"), told]


@pytest.mark.parametrize("broken", [b"\x1e", b"\x1e{}", b'\x1e{"message": 1', b"\x1e\xff"])
async def test_what_only_looks_like_a_record_is_text(
    open_pipe: Callable[..., Pipe], broken: bytes
) -> None:
    pipe = open_pipe()
    pipe.write(broken + b"\nnext\n")
    assert pipe.texts[-1] == "next"
    assert {line.level for line in pipe.lines} == {logging.INFO}


async def test_lines_over_the_limit_are_counted(open_pipe: Callable[..., Pipe]) -> None:
    pipe = open_pipe(lines_per_window=10)
    pipe.write(b"".join(b"line %d\n" % number for number in range(50_000)))
    pipe.end()
    assert pipe.texts[:10] == [f"line {number}" for number in range(10)]
    assert pipe.texts[10:] == ["49990 lines were dropped: more than 10 in 60 s"]
    assert pipe.lines[-1].level == logging.WARNING


def own(number: int, logger: str = "modelyard.runner.run") -> bytes:
    record = Record(f"model_failed: {number}", logging.ERROR, logger, "Traceback", [0])
    return encode_record(record).encode() + b"\n"


async def test_a_record_of_the_runner_itself_is_told_whatever_the_model_prints(
    open_pipe: Callable[..., Pipe],
) -> None:
    pipe = open_pipe(lines_per_window=10)
    prints = b'no record: "logger":"modelyard.runner"\n' * 500
    pipe.write(prints + own(1) + prints + b"50 %\r" + own(2) + own(3, "model") + prints)
    pipe.end()
    told = [line for line in pipe.lines[10:] if line.trace]
    assert [(line.text, line.trace, line.inputs) for line in told] == [
        ("model_failed: 1", "Traceback", (0,)),
        ("model_failed: 2", "Traceback", (0,)),
    ]
    assert pipe.texts[-1] == "1491 lines were dropped: more than 10 in 60 s"


async def test_records_of_the_runner_itself_are_limited_too(
    open_pipe: Callable[..., Pipe],
) -> None:
    pipe = open_pipe(lines_per_window=10)
    pipe.write(b"".join(own(number) for number in range(1000)))
    pipe.end()
    assert len(pipe.lines) == 10 + 10 + 1
    assert pipe.texts[-1] == "980 lines were dropped: more than 10 in 60 s"


async def test_the_count_comes_though_nothing_more_is_printed(
    open_pipe: Callable[..., Pipe],
) -> None:
    pipe = open_pipe(lines_per_window=1, window_s=0.01)
    pipe.write(b"a\nb\nc\n")
    await pipe.until(lambda: "2 lines were dropped: more than 1 in 0.01 s" in pipe.texts)
    pipe.write(b"d\n")
    assert pipe.texts[-1] == "d"


async def test_a_line_without_end_takes_no_memory(open_pipe: Callable[..., Pipe]) -> None:
    pipe = open_pipe()
    pipe.write(b"x" * 1_000_000 + b"\nnext\n")
    assert pipe.texts == ["x" * LONGEST_MESSAGE + "…", "next"]


async def test_of_a_progress_bar_the_last_state_is_told(open_pipe: Callable[..., Pipe]) -> None:
    pipe = open_pipe()
    for number in range(10_000):
        pipe.write(b"\r%d of 10000" % (number + 1))
    pipe.write(b"\r\nnext\r\n")
    assert pipe.texts == ["10000 of 10000", "next"]


async def test_the_last_lines_are_kept_however_many_there_were(
    open_pipe: Callable[..., Pipe],
) -> None:
    pipe = open_pipe(lines_per_window=1)
    pipe.write(b"".join(b"line %d\n" % number for number in range(5_000)))
    record = Record("it broke", logging.ERROR, "model", "Traceback\nValueError: no")
    pipe.write(encode_record(record).encode() + b"\nFatal Python error: Aborted")
    pipe.end()
    last = pipe.output.last_lines()
    assert len(last) == LAST_LINES
    assert last[-5:] == [
        "line 4999",
        "it broke",
        "Traceback",
        "ValueError: no",
        "Fatal Python error: Aborted",
    ]


async def test_nothing_printed_is_no_last_line(open_pipe: Callable[..., Pipe]) -> None:
    pipe = open_pipe()
    pipe.end()
    assert pipe.output.last_lines() == []


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        (Line("hello"), {"text": "hello", "ids": ["a", "b", "c"]}),
        (Line("7 were dropped", inputs=None), {"text": "7 were dropped"}),
        (
            Line("no", logging.ERROR, "model", "Traceback", (1, 7)),
            {"text": "no", "ids": ["b"], "source": "model", "trace": "Traceback"},
        ),
    ],
)
def test_a_line_is_logged_with_model_and_requests(
    line: Line, fields: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        log_line(line, model="m/1", ids=["a", "b", "c"])
    (record,) = caplog.records
    assert (record.getMessage(), record.levelno) == ("model_output", line.level)
    assert fields.items() <= vars(record).items()
    assert vars(record)["model"] == "m/1"


def test_a_line_while_nothing_runs_has_no_ids(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        log_line(Line("loading"), model="m/1", ids=[])
    assert "ids" not in vars(caplog.records[0])
