"""A door: a protocol beside ``POST /predict``, as ``PredictEndpoint`` sees it.

A door translates, and no more: bodies into what is asked, outcomes into answers. Reading within
limits, inflating, asking and telling the metrics are the endpoint's, the same for all. One file for
each protocol: ``v2.py``, ``v1.py``. A door is made for a request's head, and knows nothing else.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from modelyard.core.errors import RequestError, TooLarge
from modelyard.core.messages import Form
from modelyard.core.names import Target
from modelyard.dispatch.catalog import Entry
from modelyard.dispatch.dispatch import Ask, CacheUse


class Told(NamedTuple):
    """How a request was carried, for the headers of its answer."""

    request_id: str
    cache_use: CacheUse


class Heard(Ask, gc=False):
    """What is asked through a door. ``echo``: what has to be said again with the answer."""

    echo: bytes = b""


class Door(Protocol):
    """One protocol's side of one kind of request."""

    @property
    def form(self) -> Form:
        """Of inputs and outputs."""
        ...

    def is_quick(self, body_bytes: int) -> bool:
        """Whether a body of this size is read in little time."""
        ...

    def read(self, body: bytes | bytearray) -> Heard:
        """Give what is asked.

        Raises:
            RequestError: It is not what the protocol says.
        """
        ...

    def check(self, entry: Entry) -> None:
        """Raise a RequestError if a target cannot be asked this way."""
        ...

    def answer(
        self, target: Target, output: bytes, echo: bytes, *, told: Told
    ) -> tuple[bytes, bytes]:
        """Give status line and headers without the blank line, and the body, of a prediction."""
        ...

    def problem(self, error: RequestError, request_id: str) -> tuple[bytes, bytes]:
        """Give the same of an error."""
        ...


class TooLargeAtDoor(TooLarge):
    """A body that is over the limit, and is not read; ``door`` says it in its own words."""

    def __init__(self, detail: str, *, door: Door) -> None:
        super().__init__(detail)
        self.door = door


class RefusingDoor:
    """Stands in front of a door, and refuses a request for what its head says."""

    def __init__(self, door: Door, error: RequestError) -> None:
        self.form: Form = door.form
        self.answer = door.answer
        self.problem = door.problem
        self._error = error

    def is_quick(self, body_bytes: int) -> bool:
        """See ``Door``: the body is not looked at."""
        return True

    def read(self, body: bytes | bytearray) -> Heard:
        """See ``Door``."""
        raise self._error.with_traceback(None)

    def check(self, entry: Entry) -> None:
        """See ``Door``: it never comes to that."""
