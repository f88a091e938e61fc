"""The transport within one process tree: a call to the pool that owns the target.

Path of a request: dispatch calls ``send``, which calls the target's ``Pool.submit``.
``compose/models.py`` connects the two.
"""

from __future__ import annotations

from collections.abc import Callable

from modelyard.core.call import Call
from modelyard.core.errors import ModelNotReady
from modelyard.core.names import Target

Submit = Callable[[Call], None]


class LocalTransport:
    """Passes each call to the ``submit`` of its target's pool."""

    def __init__(self) -> None:
        self._submits: dict[Target, Submit] = {}

    @property
    def is_open(self) -> bool:
        """Always true: there is no connection that could fail."""
        return True

    def connect(self, target: Target, submit: Submit) -> None:
        """Send the requests of ``target`` to ``submit``."""
        self._submits[target] = submit

    def disconnect(self, target: Target) -> None:
        """Refuse the requests of ``target``."""
        self._submits.pop(target, None)

    def send(self, call: Call) -> None:
        """Deliver a call; see ``dispatch.Transport``."""
        submit = self._submits.get(call.request.target)
        if submit is not None:
            submit(call)
        else:
            call.settle(ModelNotReady(f"nobody serves {call.request.target}"))
