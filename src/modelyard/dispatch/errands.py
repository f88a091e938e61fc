"""Calls of jobs whose input or result may be an object; see ``core/objects.py``.

``jobs/starting.py`` has ``Dispatch.start`` make them. They share no answer with others and come
from no cache: who else asks the same could not be answered with an object of this job.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from modelyard.core.call import ErrandMixin
from modelyard.core.errors import Unavailable
from modelyard.core.instances import MANY
from modelyard.core.messages import Request
from modelyard.core.names import Target
from modelyard.core.objects import Errand, why_no_errand
from modelyard.core.trail import Trail
from modelyard.dispatch.dispatch import ClientCall
from modelyard.dispatch.entry import Entry

NOBODY = Trail("")


class JobCall(ErrandMixin, ClientCall):
    """The call of one attempt at a job in its gateway.

    Raises:
        Unavailable: The job's input is an object, and the model's workers fetch none.
    """

    __slots__ = ("object", "put")

    def __init__(
        self,
        request: Request,
        entry: Entry,
        on_answered: Callable[[ClientCall], None],
        *,
        errand_for: Callable[[Target], Errand],
    ) -> None:
        super().__init__(request, entry, on_answered)
        self.put = self.object = None
        self.keys = None
        errand = errand_for(entry.target)
        self.follow(NOBODY, errand)
        if errand.input is not None:
            self._instances = MANY  # so it is a batch, and a bundle, by itself
            if not entry.announcement.takes_errands:
                raise Unavailable(why_no_errand(entry.target))

    def follow(self, trail: Trail, errand: Errand | None = None) -> None:
        """See ``ClientCall``."""
        super().follow(msgspec.structs.replace(trail, errand=errand or self.errand))
