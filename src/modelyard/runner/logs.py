"""The runner's own logging: records become marked lines on standard error (``core/records.py``).

So the owner of the runner, who reads standard error and output through a pipe, keeps their level
and logger.
"""

from __future__ import annotations

import logging
import sys
from io import TextIOWrapper

from modelyard.core.records import Record, encode_record


class _RecordFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return encode_record(
            Record(
                message=record.getMessage(),
                level=record.levelno,
                logger=record.name,
                trace=self.formatException(record.exc_info) if record.exc_info else "",
                inputs=getattr(record, "inputs", []),
            )
        )


def report_to_owner() -> None:
    """Send this process's log records, warnings and prints to its owner, each as it comes."""
    if isinstance(sys.stdout, TextIOWrapper):  # a pipe: else Python keeps 8 KiB back
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_RecordFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.captureWarnings(capture=True)
