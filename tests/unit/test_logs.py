"""One line per event, for machines or for people."""

from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.errors import Malformed
from modelyard.gateway.uploads import read_upload
from modelyard.telemetry.logs import JsonFormatter, LogFormat, TextFormatter, set_up_logs

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00"

FORMATTERS = [JsonFormatter(), TextFormatter()]
ODD = [
    None,
    {1},
    b"\xff",
    2**70,
    float("nan"),
    1j,
    object,
    ValueError("x"),
    {(1, 2): {3: object()}},
]


def record_of(event: str, **extra: object) -> logging.LogRecord:
    return logging.makeLogRecord(
        {"name": "modelyard.x", "levelname": "INFO", "levelno": 20, "msg": event, **extra}
    )


def json_of(record: logging.LogRecord) -> dict[str, Any]:
    return msgspec.json.decode(JsonFormatter().format(record), type=dict[str, Any])


def test_a_json_line_has_the_fields_and_the_extras() -> None:
    fields = json_of(record_of("request", id="r1", seconds=0.5))
    assert re.fullmatch(TIME, fields.pop("time"))
    assert fields == {
        "level": "info",
        "event": "request",
        "logger": "modelyard.x",
        "id": "r1",
        "seconds": 0.5,
    }


def test_a_text_line_has_time_level_event_and_extras() -> None:
    line = TextFormatter().format(record_of("request", id="r1", seconds=0.5))
    assert re.fullmatch(TIME + " info    request id=r1 seconds=0.5", line)


def test_arguments_are_put_into_the_event() -> None:
    assert json_of(record_of("%s of %d", args=("one", 2)))["event"] == "one of 2"


def fail() -> NoReturn:
    raise ValueError("no such flower")


@pytest.mark.parametrize("formatter", FORMATTERS)
def test_an_error_comes_with_its_trace(formatter: logging.Formatter) -> None:
    record = record_of("failed")
    try:
        fail()
    except ValueError:
        record.exc_info = sys.exc_info()
    line = formatter.format(record)
    assert "Traceback (most recent call last)" in line
    assert "no such flower" in line


@pytest.mark.parametrize("formatter", FORMATTERS)
@pytest.mark.parametrize("value", ODD, ids=range(len(ODD)))
def test_odd_extras_are_no_reason_to_lose_the_line(
    formatter: logging.Formatter, value: object
) -> None:
    line = formatter.format(record_of("request", odd=value, id="r1"))
    assert "request" in line
    assert "r1" in line


@given(
    st.text(), st.dictionaries(st.from_regex(r"x_[a-z]+", fullmatch=True), st.text() | st.none())
)
def test_a_json_line_is_one_line_that_can_be_read_back(event: str, extra: dict[str, Any]) -> None:
    record = record_of("%s", args=(event,), **extra)
    assert len(JsonFormatter().format(record).split("\n")) == 1
    assert json_of(record).items() >= {"event": event, **extra}.items()


@pytest.fixture
def own_logging() -> Iterator[None]:
    """Put the loggers back to what they were."""
    names = (None, "uvicorn.error", "asyncio", "python_multipart")
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger, logger.level, list(logger.handlers)) for logger in loggers]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers


@pytest.mark.usefixtures("own_logging")
@pytest.mark.parametrize(("form", "start"), [("json", '{"time":"'), ("text", "20")])
def test_all_logs_go_to_standard_error(
    capsys: pytest.CaptureFixture[str], form: LogFormat, start: str
) -> None:
    set_up_logs(form=form, level="info")
    logging.getLogger("modelyard.x").info("begun", extra={"port": 8000})
    logging.getLogger("modelyard.x").debug("not shown")
    logging.getLogger("uvicorn.error").info("not shown")
    logging.getLogger("uvicorn.error").warning("odd")
    output = capsys.readouterr()
    assert output.out == ""
    lines = output.err.splitlines()
    assert [re.findall("begun|not shown|odd", line) for line in lines] == [["begun"], ["odd"]]
    assert all(line.startswith(start) for line in lines)


@pytest.mark.usefixtures("own_logging")
def test_a_malformed_form_writes_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logs(form="text", level="info")
    with pytest.raises(Malformed):
        read_upload(
            b"no form", b"multipart/form-data; boundary=x", name="iris", version=None, query=b""
        )
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("own_logging")
@pytest.mark.parametrize(("is_terminal", "start"), [(False, '{"time":"'), (True, "20")])
def test_auto_is_text_on_a_terminal_and_json_elsewhere(
    monkeypatch: pytest.MonkeyPatch, *, is_terminal: bool, start: str
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: is_terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    set_up_logs(form="auto", level="info")
    logging.getLogger("modelyard.x").info("begun")
    assert stream.getvalue().startswith(start)


@pytest.mark.usefixtures("own_logging")
def test_what_others_say_is_shown_if_it_is_worse_than_our_level(
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_up_logs(form="text", level="error")
    logging.getLogger("asyncio").warning("not shown")
    logging.getLogger("asyncio").error("shown")
    assert "not shown" not in (lines := capsys.readouterr().err)
    assert "shown" in lines
