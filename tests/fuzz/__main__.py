"""``python -m tests.fuzz``: runs targets one after the other, and tells what came of each."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.collection import SEEDS, names
from tests.fuzz.mutation import PIECES

BUILD = Path("build/fuzz")
LONGEST_WORD_BYTES = 64  # in a dictionary of libFuzzer
SLOWEST_RUN_S = 10
MOST_MEMORY_MB = 2048
LONGEST_INPUT_BYTES = 8192  # numbers of more digits than Python reads are among them


class Outcome(NamedTuple):
    """What came of one target: runs, edges that they covered, and the inputs that failed."""

    executions: int
    edges: int
    findings: list[Path]
    log: Path


def main() -> int:
    """Run what the command line says; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--minutes", type=float, default=20, help="for each target")
    parser.add_argument("--target", choices=names(), help="only this one")
    chosen = parser.parse_args()
    found = 0
    BUILD.mkdir(parents=True, exist_ok=True)
    (BUILD / "words.txt").write_text(dictionary())
    print(f"{'target':14} {'executions':>11} {'edges':>6} {'findings':>9}", flush=True)
    for name in [chosen.target] if chosen.target else names():
        outcome = fuzz(name, seconds=max(1, round(60 * chosen.minutes)))
        count = len(outcome.findings)
        print(f"{name:14} {outcome.executions:11,} {outcome.edges:6,} {count:9}", flush=True)
        for path in outcome.findings:
            print(f"  {path}: how it failed is in {outcome.log}", flush=True)
        found += count
    return 1 if found else 0


def dictionary() -> str:
    """Return what parsers stumble over, as libFuzzer reads it."""
    words = (piece.hex() for piece in PIECES if len(piece) <= LONGEST_WORD_BYTES)
    return "".join('"{}"\n'.format(re.sub("(..)", r"\\x\1", word)) for word in words)


def fuzz(name: str, *, seconds: int) -> Outcome:
    """Run one target for so long, or until it fails."""
    corpus, findings = BUILD / name, BUILD / "findings" / name
    for folder in (corpus, findings):
        folder.mkdir(parents=True, exist_ok=True)
    log = BUILD / f"{name}.log"
    with log.open("wb") as output:
        code = subprocess.run(
            [
                *(sys.executable, "-m", "tests.fuzz.atheris_run", name),
                *(f"-max_total_time={seconds}", f"-timeout={SLOWEST_RUN_S}"),
                *(f"-rss_limit_mb={MOST_MEMORY_MB}", f"-max_len={LONGEST_INPUT_BYTES}"),
                f"-dict={BUILD / 'words.txt'}",
                *(f"-artifact_prefix={findings}/", "-print_final_stats=1", "-verbosity=1"),
                *(str(corpus), str(SEEDS / name)),
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    text = log.read_text(errors="replace")
    found = [Path(path) for path in re.findall(r"Test unit written to (\S+)", text)]
    if code and not found:
        raise SystemExit(f"{name} did not run; its output is in {log}:\n{text[-2000:]}")
    runs = re.findall(r"stat::number_of_executed_units:\s*(\d+)", text)
    edges = re.findall(r"cov: (\d+)", text)
    return Outcome(int(runs[-1]) if runs else 0, int(edges[-1]) if edges else 0, found, log)


if __name__ == "__main__":
    sys.exit(main())
