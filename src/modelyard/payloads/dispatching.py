"""Dispatch with a payload log. Where there is none, nothing stands in a request's way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from modelyard.dispatch.dispatch import Ask, ClientCall, Dispatch
from modelyard.payloads.log import PayloadLog


class LoggedDispatch(Dispatch):
    """Lets a payload log see how requests are answered; those of jobs too.

    Args:
        payloads: The log.
        parts: What ``Dispatch`` takes.
    """

    def __init__(self, payloads: PayloadLog, **parts: Any) -> None:
        super().__init__(**parts)
        self._payloads = payloads

    def start(
        self,
        ask: Ask,
        on_answered: Callable[[ClientCall], None],
        request_id: str,
        **more: Any,
    ) -> ClientCall:
        """See ``Dispatch``."""
        on_answered = self._payloads.watch(on_answered, ask, self._clock())
        return super().start(ask, on_answered, request_id, **more)
