"""A form with one file, read as it comes: the file is larger than memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from modelyard.core.errors import Malformed, WrongMediaType

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FORM = b"multipart/form-data"
MOST_FIELD_BYTES = 64 << 10
MOST_PARTS = 100


class FilePart:
    """The form of a request.

    Args:
        content_type: Of that.

    Attributes:
        name: Of the file; None if none has come.
        fields: All other parts, by name.

    Raises:
        WrongMediaType: It is no form.
    """

    def __init__(self, content_type: bytes) -> None:
        kind, parameters = parse_options_header(content_type)
        if kind != FORM:
            raise WrongMediaType("send a form, multipart/form-data, with a file and a purpose")
        self.name: str | None = None
        self.fields: dict[str, str] = {}
        self._boundary = parameters.get(b"boundary", b"")
        self._pieces: list[bytes] = []
        self._header = (bytearray(), bytearray())
        self._field: str | None = None
        self._value = bytearray()
        self._parts = 0

    async def content(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield the file, piece by piece.

        Raises:
            Malformed: It is no form, or another one than it should be.
        """
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_part_data": self._take,
            "on_part_end": self._end,
        }
        try:
            parser = MultipartParser(self._boundary, callbacks)
            async for piece in body:
                parser.write(piece)
                for one in self._pieces:
                    yield one
                self._pieces.clear()
            parser.finalize()
        except FormParserError as error:
            raise Malformed(f"the form is malformed: {error}") from error

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise Malformed(f"the form has more than {MOST_PARTS} parts")
        self._field = None
        self._value.clear()

    def _end_header(self) -> None:
        name, value = (bytes(one) for one in self._header)
        for one in self._header:
            one.clear()
        if name.lower() != b"content-disposition":
            return
        _, options = parse_options_header(value)
        if b"filename" not in options:
            self._field = options.get(b"name", b"").decode("utf-8", "replace")
            return
        if self.name is not None:
            raise Malformed("the form has more than one file")
        self.name = options[b"filename"].decode("utf-8", "replace")

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._field is None:
            self._pieces.append(data[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > MOST_FIELD_BYTES:
            raise Malformed("a field of the form is too long")

    def _end(self) -> None:
        if self._field is not None:
            self.fields[self._field] = self._value.decode("utf-8", "replace")
