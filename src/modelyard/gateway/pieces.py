"""The door of ``POST /predict`` for answers in pieces: ``Accept`` names the format."""

from __future__ import annotations

from modelyard.core.errors import RequestError
from modelyard.core.messages import Form
from modelyard.core.names import Target
from modelyard.dispatch.catalog import Entry
from modelyard.dispatch.dispatch import Ask
from modelyard.gateway.answer import problem_answer
from modelyard.gateway.door import Heard, Told
from modelyard.gateway.formats import StreamFormat
from modelyard.gateway.question import INLINE_PARSE_BYTES, read_ask
from modelyard.gateway.uploads import read_upload


class PiecesDoor:
    """Reads requests as ``/predict`` does.

    Args:
        form: Of the input.
        written: How the pieces are written.
        address: The model and version that the URL names.
        upload: Content type of a body that holds a file; else empty.
        query: The URL's.
    """

    def __init__(
        self,
        form: Form,
        written: StreamFormat,
        *,
        address: tuple[str | None, str | None],
        upload: bytes,
        query: bytes,
    ) -> None:
        self.form = form
        self._written = written
        self._name, self._version = address
        self._upload = upload
        self._query = query

    def is_quick(self, body_bytes: int) -> bool:
        """See ``Door``."""
        return body_bytes <= INLINE_PARSE_BYTES

    def read(self, body: bytes | bytearray) -> Heard:
        """See ``Door``."""
        name, version = self._name, self._version
        if self._upload and name is not None:
            ask = read_upload(body, self._upload, name=name, version=version, query=self._query)
        else:
            ask = read_ask(body, self.form, name=name, version=version)
        return Heard(
            ask.model_name,
            ask.input_data,
            ask.model_version,
            ask.timeout_s,
            ask.priority,
            written=self._written,
        )

    def check(self, entry: Entry, ask: Ask) -> None:
        """See ``Door``: dispatch says whether there are pieces."""

    def answer(
        self, target: Target, output: bytes, echo: bytes, *, told: Told
    ) -> tuple[bytes, bytes]:
        """Never called: there are only pieces."""
        raise NotImplementedError

    def problem(self, error: RequestError, request_id: str) -> tuple[bytes, bytes]:
        """See ``Door``."""
        return problem_answer(error, request_id)
