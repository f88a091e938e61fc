"""Structured logs: one line per event, JSON or ``key=value``, on standard error.

A line holds the fields passed in ``extra``: ids, names, counts. Never a body, never a secret.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

LogFormat = Literal["auto", "json", "text"]

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


class _Formatter(logging.Formatter):
    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        extra = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        own = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
        }
        fields = own | extra | own  # our fields come first, and extra cannot override them
        if record.exc_info:
            fields["trace"] = self.formatException(record.exc_info)
        return fields


class JsonFormatter(_Formatter):
    """A JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = self.fields(record)
        try:
            return msgspec.json.encode(fields, enc_hook=str).decode()
        except Exception:  # a line in another format is better than none
            return json.dumps({name: ascii(value) for name, value in fields.items()})


class TextFormatter(_Formatter):
    """Time, level, event, then ``key=value``, for people."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = self.fields(record)
        head = f"{fields.pop('time')} {fields.pop('level'):7} {fields.pop('event')}"
        fields.pop("logger")
        trace = fields.pop("trace", None)
        line = " ".join(
            [head, *(f"{name}={_on_one_line(value)}" for name, value in fields.items())]
        )
        return f"{line}\n{trace}" if trace else line


def _on_one_line(value: object) -> str:
    text = str(value)
    return text if text.isprintable() else ascii(text)


class _ToStderr(logging.Handler):
    """Writes to the current ``sys.stderr``, which a live display replaces while it is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except OSError:  # nobody reads any more
            pass
        except Exception:
            self.handleError(record)


def set_up_logs(*, form: LogFormat, level: str) -> None:
    """Send all logs of this process, the web server's too, to standard error in ``form``.

    ``auto`` is text on a terminal, and JSON elsewhere.
    """
    handler = _ToStderr()
    if form == "auto":
        form = "text" if sys.stderr is not None and sys.stderr.isatty() else "json"
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("uvicorn.error").setLevel(max(root.level, logging.WARNING))
    logging.getLogger("asyncio").setLevel(max(root.level, logging.WARNING))
    logging.getLogger("mcp").setLevel(max(root.level, logging.WARNING))
    # It tells each step of looking at a schema.
    logging.getLogger("alembic").setLevel(max(root.level, logging.WARNING))
    # It warns of each malformed form, which its sender is told anyway.
    logging.getLogger("python_multipart").setLevel(max(root.level, logging.ERROR))
