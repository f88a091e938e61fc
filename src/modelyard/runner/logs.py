"""The runner's own logging: records become marked lines on standard error (``core/records.py``).

The pool reads the runner's standard output and error through a pipe. The marked lines preserve each
record's level and logger.
"""

from __future__ import annotations

import logging
import os
import sys

from modelyard.core.records import Record, encode_record

_ERRORS = "backslashreplace"  # so that print does not raise on a lone surrogate


class _RecordFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return encode_record(
            Record(
                message=record.getMessage().rstrip(),
                level=record.levelno,
                logger=record.name,
                trace=self.formatException(record.exc_info) if record.exc_info else "",
                inputs=getattr(record, "inputs", []),
            )
        )


def report_to_owner() -> None:
    """Send this process's log records, warnings and prints to its pool, without buffering."""
    os.dup2(2, 1)  # one pipe for both, so that they stay in order
    # Python's default stdout would buffer 8 KiB.
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors=_ERRORS, closefd=False)  # noqa: SIM115
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_RecordFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.captureWarnings(capture=True)
