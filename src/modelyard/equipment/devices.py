"""The devices of this machine, and which of them are given to runners.

A runner sees its devices through the variables that its vendor's libraries read. For a kind whose
vendor is not known here nothing is reserved and nothing set: in Kubernetes the pod has its devices
from the cluster, and its only runner may use them all.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from modelyard.equipment import NotEquipped

log = logging.getLogger(__name__)

LOOKING_S = 30.0

_LISTED = re.compile(r"^(?:GPU (\d+)|\s+MIG\b.*\(UUID: (MIG-[^)]+))", re.MULTILINE)
_KFD_NODES = Path("/sys/class/kfd/kfd/topology/nodes")


class Taken(NamedTuple):
    """Devices that a runner has to itself until ``give_back`` is called, once or more often."""

    variables: dict[str, str]
    give_back: Callable[[], None]


class Devices:
    """Assigns devices to runners.

    Args:
        named: What the devices are called, whatever their kind; None to look for them.
        variables: The environment of this process; it may say which devices are ours.
    """

    def __init__(self, named: Sequence[str] | None, variables: Mapping[str, str]) -> None:
        self._named = named
        self._variables = variables
        self._known: dict[str, list[str]] = {}  # by vendor
        self._in_use: dict[str, set[str]] = {}
        self._looking = asyncio.Lock()

    async def take(self, count: int, *, kind: str, may_lack: bool = False) -> Taken:
        """Reserve ``count`` devices that no other runner has, and return them.

        ``may_lack``: where this machine has none at all, none is given, and the runner sees none.

        Raises:
            NotEquipped: There are not so many, or too many are in use.
        """
        vendor = kind.partition("/")[0]
        if not count or vendor not in _VENDORS:
            return Taken({}, lambda: None)
        known = await self._all_of(vendor)
        in_use = self._in_use.setdefault("" if self._named is not None else vendor, set())
        if not known and may_lack:
            log.warning("no_device", extra={"kind": kind, "reason": "runs on the CPU"})
            return Taken(_VENDORS[vendor].show([], self._variables), lambda: None)
        free = [device for device in known if device not in in_use]
        if len(free) < count:
            raise NotEquipped(_describe_lack(count, kind, known=known, in_use=in_use))
        mine = free[:count]
        in_use.update(mine)
        variables = _VENDORS[vendor].show(mine, self._variables)
        return Taken(variables, lambda: _give_back(mine, in_use))

    async def _all_of(self, vendor: str) -> list[str]:
        if self._named is not None:
            return list(dict.fromkeys(self._named))
        async with self._looking:
            if vendor not in self._known:
                self._known[vendor] = await _look_for(_VENDORS[vendor], self._variables)
        return self._known[vendor]


def _give_back(mine: list[str], in_use: set[str]) -> None:
    in_use.difference_update(mine)
    mine.clear()  # a second call must not take them from who has them next


def _describe_lack(count: int, kind: str, *, known: list[str], in_use: set[str]) -> str:
    asked = f"asks for {count} of {kind}; this server has"
    if not known:
        return f"{asked} none, or did not find them: the setting gpus can name them"
    used = len(in_use)
    return f"{asked} {len(known)} and {used} {'is' if used == 1 else 'are'} in use"


class _Vendor(NamedTuple):
    """How devices are found, and how a process is told which are its own.

    ``limits``: variables that say which devices this process itself may use; the first that is set
    counts.
    """

    limits: tuple[str, ...]
    find: Callable[[], Awaitable[list[str]]]
    show: Callable[[list[str], Mapping[str, str]], dict[str, str]]


async def _look_for(vendor: _Vendor, variables: Mapping[str, str]) -> list[str]:
    for name in vendor.limits:
        if name in variables:
            listed = (part.strip() for part in variables[name].split(","))
            # As the libraries read it: what follows an empty or a negative one does not count.
            usable = takewhile(lambda part: part and not part.startswith("-"), listed)
            return list(dict.fromkeys(usable))
    return await vendor.find()


async def _find_nvidia() -> list[str]:
    """Return the numbers of the devices; of a divided device, the names of its parts."""
    listed = await _nvidia_smi()
    if listed is None:
        return _count_up(await asyncio.to_thread(_count_nvidia))
    found: list[str] = []
    whole = ""
    for number, part in _LISTED.findall(listed):
        if part and found[-1:] == [whole]:
            found.pop()  # a divided device cannot be used as a whole
        whole = number or ""
        found.append(number or part)
    return found


async def _nvidia_smi() -> str | None:
    """Return the output of ``nvidia-smi -L``; None if it cannot be run."""
    try:
        asked = await asyncio.create_subprocess_exec(
            *("nvidia-smi", "-L"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return None
    try:
        output, _ = await asyncio.wait_for(asked.communicate(), LOOKING_S)
    except TimeoutError:
        return None
    finally:
        if asked.returncode is None:
            asked.kill()
            await asked.wait()
    return output.decode(errors="replace") if asked.returncode == 0 else None


async def _find_amd() -> list[str]:
    return _count_up(await asyncio.to_thread(_count_amd))


def _count_nvidia() -> int:
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def _count_amd() -> int:
    """Count the kernel's compute nodes that are no CPU."""
    count = 0
    for path in _KFD_NODES.glob("*/gpu_id"):
        try:
            count += int(path.read_text()) != 0
        except (OSError, ValueError):  # one that this process may not use
            continue
    return count


def _count_up(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def _show_nvidia(devices: list[str], variables: Mapping[str, str]) -> dict[str, str]:
    # Left alone, CUDA counts the fastest first, and nvidia-smi by their place on the bus.
    by_bus = {} if "CUDA_VISIBLE_DEVICES" in variables else {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    return by_bus | {"CUDA_VISIBLE_DEVICES": ",".join(devices)}


def _show_amd(devices: list[str], _: Mapping[str, str]) -> dict[str, str]:
    # The second counts anew among those that the first leaves.
    among = ",".join(_count_up(len(devices)))
    return {"ROCR_VISIBLE_DEVICES": ",".join(devices), "HIP_VISIBLE_DEVICES": among}


_VENDORS = {
    "nvidia.com": _Vendor(("CUDA_VISIBLE_DEVICES",), _find_nvidia, _show_nvidia),
    "amd.com": _Vendor(("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"), _find_amd, _show_amd),
}
