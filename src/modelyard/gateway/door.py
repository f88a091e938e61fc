"""A door: a protocol beside ``POST /predict``, as ``PredictEndpoint`` sees it.

A door only translates: request bodies into an Ask, outcomes into responses. ``HttpConnection`` and
``PredictEndpoint`` do the rest for all protocols: size limits, decompression, dispatch, metrics.
There is one file per protocol: ``v2.py``, ``v1.py``. A door is created from a request's head.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from modelyard.core.errors import RequestError
from modelyard.core.messages import Form
from modelyard.core.names import Target
from modelyard.dispatch.dispatch import Ask
from modelyard.dispatch.entry import Entry
from modelyard.dispatch.interfaces import CacheUse
from modelyard.gateway.formats import StreamFormat


class Told(NamedTuple):
    """How a request was carried, for the headers of its answer."""

    request_id: str
    cache_use: CacheUse


class Heard(Ask, gc=False):
    """An Ask that came through a door. ``echo``: data to repeat in the response (the V2 id).
    ``written``: how the pieces of the answer are written, if it is wanted in pieces.
    """

    echo: bytes = b""
    written: StreamFormat | None = None


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
        """Parse a body into an Ask.

        Raises:
            RequestError: It is not valid in the protocol.
        """
        ...

    def check(self, entry: Entry, ask: Ask) -> None:
        """Raise a RequestError if a target cannot be asked this way. What the target takes may
        decide here on the input.
        """
        ...

    def answer(
        self, target: Target, output: bytes, echo: bytes, *, told: Told
    ) -> tuple[bytes, bytes]:
        """Return a prediction's status line and headers without the blank line, and its body.

        Raises:
            ModelFailed: The protocol has no answer that says this.
        """
        ...

    def problem(self, error: RequestError, request_id: str) -> tuple[bytes, bytes]:
        """Return the head and body of an error response."""
        ...


class RefusingDoor:
    """Stands in front of a door, and refuses the request because of its head."""

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

    def check(self, entry: Entry, ask: Ask) -> None:
        """Never called: ``read`` always raises."""
