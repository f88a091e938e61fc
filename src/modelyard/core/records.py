"""A log record as a runner sends it to its pool: one line on standard error.

The line is ``RECORD_MARK`` and JSON. Every other line is plain text: what a model prints, or the
crash report of the process.
"""

from __future__ import annotations

import msgspec

RECORD_MARK = "\x1e"
"""ASCII's record separator, which does not occur in ordinary text."""

OWN_RECORD = b'"logger":"modelyard.runner'
"""Part of the line of each record that the runner itself logs, and of no other record's: inside a
string, JSON escapes the quotes."""

LONGEST_MESSAGE = 4000
LONGEST_TRACE = 8000
"""Characters. Of a longer traceback the end is kept, since that names the error."""


class Record(msgspec.Struct, frozen=True):
    """One record of a runner's logging.

    ``level`` is the number of a level in ``logging``. ``inputs``: the positions in the batch of the
    requests that the record is about, if any.
    """

    message: str
    level: int
    logger: str
    trace: str = ""
    inputs: list[int] = []


_decoder = msgspec.json.Decoder(Record)


def encode_record(record: Record) -> str:
    """Return the line, without its line break."""
    trace = record.trace
    if len(trace) > LONGEST_TRACE:
        trace = "…" + trace[-LONGEST_TRACE:]
    message = record.message
    if len(message) > LONGEST_MESSAGE:
        message = message[:LONGEST_MESSAGE] + "…"
    short = msgspec.structs.replace(record, message=_clean(message), trace=_clean(trace))
    return RECORD_MARK + msgspec.json.encode(short).decode()


def decode_record(line: bytes) -> Record | None:
    """Return the record in a line (without its mark), or None if it cannot be read."""
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _clean(text: str) -> str:
    """Escape lone surrogates, which JSON cannot represent."""
    return text.encode(errors="backslashreplace").decode()
