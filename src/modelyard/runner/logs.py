"""The runner's own logging: records become marked lines on standard error (``core/records.py``).

So the owner of the runner, who reads standard error and output through a pipe, keeps their level
and logger.
"""

from __future__ import annotations

import logging
import os
import sys

from modelyard.core.records import Record, encode_record

_ERRORS = "backslashreplace"  # a lone surrogate is no reason to raise in a print


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
    """Send this process's log records, warnings and prints to its owner, each as it comes."""
    os.dup2(2, 1)  # in one pipe they keep their order
    # Python's own would keep back 8 KiB of what is printed.
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors=_ERRORS, closefd=False)  # noqa: SIM115
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_RecordFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.captureWarnings(capture=True)
