"""This machine: open files, disk, shared memory, and what a control group allows."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from modelyard.doctor.finding import Case, Finding, State

FEWEST_FILES = 4096
LEAST_DISK, SCARCE_DISK = 200 * 1_000_000, 2_000 * 1_000_000
LEAST_SHARED = 64 * 1_000_000
FULL = 0.9  # of the memory that a control group allows
_GROUPS = Path("/sys/fs/cgroup")
_SHARED = Path("/dev/shm")  # noqa: S108


def check_machine(case: Case) -> Iterator[Finding]:
    """Look at what the system gives a process here."""
    yield from _files()
    yield from _disk("state_folder", case.settings.state)
    if case.settings.model_cache_folder:
        yield from _disk("model_cache_folder", Path(case.settings.model_cache_folder))
    if _SHARED.is_dir():
        free = shutil.disk_usage(_SHARED).free
        if free < LEAST_SHARED:
            yield _limit(
                "warn",
                f"{_SHARED} has {free / 1e6:.0f} MB free; frameworks such as PyTorch use it",
                "give the container more: --shm-size, or a volume of memory there",
            )
    yield from _group()


def _files() -> Iterator[Finding]:
    if sys.platform == "win32":
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < FEWEST_FILES:
        yield _limit(
            "warn",
            f"{hard} files may be open, and every connection is one",
            "raise it: `ulimit -n 65536`, or LimitNOFILE= in systemd",
        )
    else:
        count = "any number of" if hard == resource.RLIM_INFINITY else f"{hard:,}"
        yield _limit("ok", f"{count} files may be open")


def _disk(name: str, folder: Path) -> Iterator[Finding]:
    there = folder
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if not os.access(there, os.W_OK):
        yield _limit("fail", f"{there} cannot be written ({name})", f"let this user write {there}")
    if free < SCARCE_DISK:
        state: State = "fail" if free < LEAST_DISK else "warn"
        do = f"make room there, or set {name} to another disk"
        yield _limit(state, f"{folder} has {free / 1e6:.0f} MB free ({name})", do)
    else:
        yield _limit("ok", f"{folder} has {free / 1e9:.0f} GB free ({name})")


def _group() -> Iterator[Finding]:
    """Look at the control group of this process, as a container sees it (version 2)."""
    quota, _, period = _read("cpu.max").partition(" ")
    cpus = os.cpu_count() or 1
    if quota.isdigit() and period.isdigit():
        share = int(quota) / int(period)
        if share < 1:
            yield _limit(
                "warn",
                f"{share:.2g} of a CPU is allowed: a process that has used it up stands still",
                "allow one CPU at least, or no limit",
            )
        else:
            yield _limit("ok", f"{share:.3g} of {cpus} CPUs are allowed")
    most, used = _read("memory.max"), _read("memory.current")
    if most.isdigit() and used.isdigit():
        text = f"{int(used) / 1e9:.1f} of {int(most) / 1e9:.1f} GB of memory are used"
        if int(used) > FULL * int(most):
            do = "allow more: runners are killed when it is full"
            yield _limit("warn", text, do)
        else:
            yield _limit("ok", text)


def _read(name: str) -> str:
    try:
        return (_GROUPS / name).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _limit(state: State, what: str, do: str = "") -> Finding:
    return Finding("limits", state, what, do)
