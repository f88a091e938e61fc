"""What breaks between processes."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.network import Link
from tests.simulation.part import Part
from tests.simulation.schedule import Fault, FaultKind

if TYPE_CHECKING:
    from tests.simulation.world import World


def later(world: World, fault: Fault, deed: Callable[[], object]) -> None:
    """Do something when a fault has lasted its time."""
    world.loop.call_later(fault.lasts_s, deed)


def _victim(world: World, fault: Fault) -> Part | None:
    parts: list[Part] = [p for p in [*world.fronts, *world.workers] if p.process.state == "up"]
    return parts[fault.whose % len(parts)] if parts else None


def _link(world: World, fault: Fault) -> Link | None:
    part = _victim(world, fault)
    links = world.network.of(part.process) if part is not None else []
    return links[fault.amount % len(links)] if links else None


def _on_link(deed: Callable[[World, Fault, Link], None]) -> Callable[[World, Fault], None]:
    def strike_(world: World, fault: Fault) -> None:
        link = _link(world, fault)
        if link is not None:
            deed(world, fault, link)

    return strike_


def _reset(_: World, __: Fault, link: Link) -> None:
    link.client.reset()


def _cut(world: World, fault: Fault, link: Link) -> None:
    end = link.client if fault.amount % 2 else link.server
    end.cut_after = fault.amount // 8 % 400
    later(world, fault, lambda: setattr(end, "cut_after", None))


def _stall(world: World, fault: Fault, link: Link) -> None:
    ends = [link.client, link.server]
    for end in ends if fault.amount % 3 == 0 else ends[:1] if fault.amount % 3 == 1 else ends[1:]:
        end.stalled_until = world.loop.time() + fault.lasts_s


def _silent(world: World, fault: Fault) -> None:
    """Let nothing of a part through, and no news of it; then reset what is left."""
    part = _victim(world, fault)
    if part is None:
        return
    links = world.network.of(part.process)
    for link in links:
        link.client.is_dropping = link.server.is_dropping = True
    world.network.unheard.add(part.name)

    def heal() -> None:
        world.network.unheard.discard(part.name)
        for link in links:
            link.client.reset()

    later(world, fault, heal)


def _half_open(_: World, fault: Fault, link: Link) -> None:
    end = link.client if fault.amount % 2 else link.server
    end.leave_unnoticed(is_told_when_written=bool(fault.amount // 2 % 2))


def _refuse(world: World, fault: Fault) -> None:
    """Reset all connections of a part, and let it make none."""
    part = _victim(world, fault)
    if part is None:
        return
    world.network.refused.add(part.name)
    for link in world.network.of(part.process):
        link.client.reset()
    later(world, fault, lambda: world.network.refused.discard(part.name))


def _damage(world: World, fault: Fault, link: Link) -> None:
    end = link.client if fault.amount % 2 else link.server
    end.flip_after = Random(fault.amount).randrange(600)
    later(world, fault, lambda: setattr(end, "flip_after", None))


STRIKES: dict[FaultKind, Callable[[World, Fault], None]] = {
    "reset": _on_link(_reset),
    "cut": _on_link(_cut),
    "stall": _on_link(_stall),
    "silent": _silent,
    "half_open": _on_link(_half_open),
    "refuse": _refuse,
    "damage": _on_link(_damage),
}
