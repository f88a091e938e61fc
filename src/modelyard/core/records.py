"""A log record on the way from a runner to its owner: one line of its standard error.

The line is ``RECORD_MARK`` and JSON. Every other line is text: what a model prints, or what ended
the process.
"""

from __future__ import annotations

import msgspec

RECORD_MARK = "\x1e"
"""ASCII's record separator: no line of text has it by chance."""

LONGEST_MESSAGE = 4000
LONGEST_TRACE = 8000
"""Characters. Of a traceback the end is kept, which says what happened."""


class Record(msgspec.Struct, frozen=True):
    """One record of a runner's logging.

    ``level`` is logging's number. ``inputs``: the positions in its batch of the requests that it
    is about, where it is about requests.
    """

    message: str
    level: int
    logger: str
    trace: str = ""
    inputs: list[int] = []


_decoder = msgspec.json.Decoder(Record)


def encode_record(record: Record) -> str:
    """Give the line, without its end."""
    trace = record.trace
    if len(trace) > LONGEST_TRACE:
        trace = "…" + trace[-LONGEST_TRACE:]
    message = record.message
    if len(message) > LONGEST_MESSAGE:
        message = message[:LONGEST_MESSAGE] + "…"
    short = msgspec.structs.replace(record, message=_clean(message), trace=_clean(trace))
    return RECORD_MARK + msgspec.json.encode(short).decode()


def decode_record(line: bytes) -> Record | None:
    """Give the record in a line without its mark, or None if there is none."""
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _clean(text: str) -> str:
    """Write out lone surrogates, which JSON does not have."""
    return text.encode(errors="backslashreplace").decode()
