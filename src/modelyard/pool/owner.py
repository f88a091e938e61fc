"""What a slot tells its pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from modelyard.core.call import Call
from modelyard.core.messages import Answers, Ready
from modelyard.pool.endings import Lost
from modelyard.pool.interfaces import TellProgress

if TYPE_CHECKING:
    from modelyard.pool.slot import Slot


class SlotOwner(Protocol):
    """Receives the events of a slot's runner."""

    def on_step(self, text: str) -> None:
        """Starting a runner is delayed; ``text`` says why. ``""``: no longer delayed."""
        ...

    def on_ready(self, slot: Slot, ready: Ready) -> str:
        """The model is loaded; returns why it cannot be taken into service, or an empty string."""
        ...

    def on_answers(self, slot: Slot, batch: list[Call], answers: Answers) -> None:
        """A batch finished."""
        ...

    def on_done(self, slot: Slot, batch: list[Call], answers: Answers) -> None:
        """A batch finished, of a runner that has several under way."""
        ...

    @property
    def on_progress(self) -> TellProgress:
        """Is told how far the model is with some calls."""
        ...

    def on_room(self, slot: Slot, *, has_room: bool) -> None:
        """Such a runner has room for another batch, or has none."""
        ...

    @property
    def has_suspects(self) -> bool:
        """Whether calls wait that must run apart."""
        ...

    def is_suspect(self, call: Call) -> bool:
        """Return whether a call that was just taken must run apart."""
        ...

    def on_closed(self, slot: Slot) -> None:
        """The runner takes no more batches; ``on_lost`` or ``on_left`` follows."""
        ...

    def on_lost(self, slot: Slot, lost: Lost) -> None:
        """The runner ended unexpectedly, or in the middle of a batch."""
        ...

    def on_left(self, slot: Slot) -> None:
        """The runner ended as requested, and the slot stays empty."""
        ...
