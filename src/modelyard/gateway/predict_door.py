"""``POST /predict`` as a door: for requests that become jobs, and for answers in pieces."""

from __future__ import annotations

from collections.abc import Callable

from modelyard.core.errors import RequestError
from modelyard.core.messages import Form
from modelyard.core.names import Target
from modelyard.dispatch.dispatch import Ask
from modelyard.dispatch.entry import Entry
from modelyard.gateway.answer import prediction_body, prediction_head, problem_answer
from modelyard.gateway.door import Heard, Told
from modelyard.gateway.formats import StreamFormat
from modelyard.gateway.question import read_ask

Read = Callable[[bytes | bytearray], Ask]


class PredictDoor:
    """Reads and answers as ``/predict`` does.

    Args:
        form: Of the body.
        read: Reads the body, if that is no plain one of this form.
        name: Of the model; None if the body names it.
        version: The same of the version.
        written: How the pieces of the answer are written; None for an answer as a whole.
    """

    def __init__(
        self,
        form: Form,
        read: Read | None = None,
        *,
        name: str | None = None,
        version: str | None = None,
        written: StreamFormat | None = None,
    ) -> None:
        self.form = form
        self._read = read
        self._name = name
        self._version = version
        self._written = written

    def is_quick(self, body_bytes: int) -> bool:
        """See ``Door``."""
        return False

    def read(self, body: bytes | bytearray) -> Heard:
        """See ``Door``."""
        if self._read is not None:
            ask = self._read(body)
        else:
            ask = read_ask(body, self.form, name=self._name, version=self._version)
        version, timeout_s = ask.model_version, ask.timeout_s
        return Heard(
            ask.model_name,
            ask.input_data,
            version,
            timeout_s,
            ask.priority,
            written=self._written,
        )

    def check(self, entry: Entry, ask: Ask) -> None:
        """See ``Door``: every target can be asked this way."""

    def answer(
        self, target: Target, output: bytes, echo: bytes, *, told: Told
    ) -> tuple[bytes, bytes]:
        """See ``Door``."""
        body = prediction_body(target, output, self.form)
        request_id, cache_use = told
        head = prediction_head(self.form, len(body), request_id=request_id, cache_use=cache_use)
        return head, body

    def problem(self, error: RequestError, request_id: str) -> tuple[bytes, bytes]:
        """See ``Door``."""
        return problem_answer(error, request_id)
