"""Calls that are not run as they come: for a stream, or for a job with objects."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from modelyard.core.call import Call, ErrandMixin
from modelyard.core.errors import NotAcceptable, Unavailable
from modelyard.core.manifest import Manifest
from modelyard.core.objects import why_no_errand


class Errands(Protocol):
    """Fetches inputs of jobs, and puts large results away; ``jobs/errands.py`` is the real one."""

    def fetch(self, call: ErrandMixin, then: Callable[[Call], None]) -> None:
        """Fetch the input of a call, which ``then`` gets; the call is settled if there is none."""
        ...

    def put(self, call: ErrandMixin, outcome: bytes) -> None:
        """Put the result of a call away, and settle the call with what it is then."""
        ...


class Specials:
    """Looks at the calls of one pool that are special.

    Args:
        manifest: The model's.
        errands: Fetches and puts away objects of jobs; None if there is no place for them.

    Attributes:
        errands_open: How many calls with errands are not settled.
    """

    def __init__(self, manifest: Manifest, errands: Errands | None) -> None:
        self.errands_open = 0
        self._manifest = manifest
        self._errands = errands

    def take(self, call: Call, submit: Callable[..., None], *, is_suspect: bool) -> bool:
        """Return whether a call may run now. If it may not, it is settled, or is submitted again
        by ``submit`` once its input is here.
        """
        if call.stream is not None and not self._manifest.batching.concurrency:
            # A gateway that does not know the model's schema yet cannot tell.
            why = f"{self._manifest.target} gives no pieces; ask for its answer as a whole"
            call.settle(NotAcceptable(why))
            return False
        if not isinstance(call, ErrandMixin):
            return True
        has_input = call.errand.input is None or bool(call.request.input)
        if self._errands is None:
            if not has_input:
                call.settle(Unavailable(why_no_errand(self._manifest.target)))
            return has_input
        if call.put is None:  # it comes for the first time
            call.put = self._errands.put
            self.errands_open += 1
            call.watch(self._left)
        if not has_input:
            self._errands.fetch(call, partial(submit, is_suspect=is_suspect))
        return has_input

    def _left(self, _: Call) -> None:
        self.errands_open -= 1
