"""What the runner says of itself: a process of its own, read through one pipe."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

from modelyard.core.records import (
    LONGEST_MESSAGE,
    LONGEST_TRACE,
    RECORD_MARK,
    Record,
    decode_record,
    encode_record,
)

SAYS = """\
import logging, os, sys, warnings
from modelyard.runner.logs import report_to_owner

report_to_owner()
print("printed")
log = logging.getLogger("model.inner")
log.debug("not told")
log.info("loaded %d trees", 7)
try:
    raise ValueError("no")
except ValueError:
    log.exception("lone \\ud800", extra={"inputs": [1]})
warnings.warn("old", stacklevel=1)
print("last \\ud800", end="")
sys.stdout.flush()
os._exit(3)
"""


def test_prints_records_and_warnings_come_in_order_and_at_once(tmp_path: Path) -> None:
    script = tmp_path / "says.py"
    script.write_text(SAYS)
    run = subprocess.run(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    assert run.returncode == 3
    printed, loaded, failed, warned, last = run.stdout.split(b"\n")[:5]
    assert (printed, last) == (b"printed", rb"last \ud800")
    assert record_in(loaded) == Record("loaded 7 trees", logging.INFO, "model.inner")
    found = record_in(failed)
    assert (found.message, found.level, found.inputs) == (r"lone \ud800", logging.ERROR, [1])
    assert found.trace.startswith("Traceback (most recent call last)")
    assert found.trace.endswith("ValueError: no")
    assert record_in(warned).logger == "py.warnings"


def record_in(line: bytes) -> Record:
    text, _, rest = line.partition(RECORD_MARK.encode())
    record = decode_record(rest)
    assert text == b""
    assert record is not None
    return record


def test_a_record_is_one_short_line() -> None:
    long = Record("m\n" * LONGEST_MESSAGE, logging.INFO, "l", "first\n" + "t" * LONGEST_TRACE)
    line = encode_record(long)
    assert "\n" not in line
    assert len(line) < 2 * (LONGEST_MESSAGE + LONGEST_TRACE)
    found = record_in(line.encode())
    assert found.message.startswith("m\nm")
    assert found.trace == "…" + "t" * LONGEST_TRACE
