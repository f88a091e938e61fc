"""File uploads: one file as the body, or several in a form (``multipart/form-data``).

Either way the instances are bytes or text. The runner gets them as a list of byte strings, in the
form ``raw``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import msgspec
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from modelyard.core.errors import InvalidInput, Malformed, WrongMediaType
from modelyard.dispatch.dispatch import Ask
from modelyard.gateway.question import refusal_of

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FORM = b"multipart/form-data"
OPTIONS = ("timeout_s", "priority", "model_version")
MOST_PARTS = 10_000

_TEXTS = (b"utf-8", b"us-ascii")
_KINDS = (b"image/", b"audio/", b"video/")
_TYPES = {b"application/octet-stream", b"application/pdf", b"text/plain"}


def is_upload(content_type: bytes) -> bool:
    """Return whether a body of this content type is a file, or a form with files."""
    kind = content_type.partition(b";")[0].strip().lower()
    return kind.startswith(_KINDS) or kind in _TYPES or kind == FORM


def read_upload(
    body: bytes | bytearray,
    content_type: bytes,
    *,
    name: str,
    version: str | None,
    query: bytes,
) -> Ask:
    """Decode an upload for the model that its URL names.

    ``timeout_s`` and ``priority`` are in the query, or are fields of the form.

    Raises:
        Malformed: The form or an option is malformed.
        InvalidInput: There is no file, or an unknown option.
    """
    options = {key: values[-1] for key, values in parse_qs(query.decode("latin-1")).items()}
    kind, parameters = parse_options_header(content_type)
    if kind == FORM:
        files, fields = _read_form(bytes(body), parameters.get(b"boundary", b""))
        options |= fields
    else:
        if kind.startswith(b"text/") and parameters.get(b"charset", b"utf-8").lower() not in _TEXTS:
            raise WrongMediaType("texts are taken in UTF-8")
        files = [bytes(body)]
    if unknown := sorted(set(options) - set(OPTIONS)):
        raise InvalidInput(f"there is no option {unknown[0]!r}; there are {', '.join(OPTIONS)}")
    if version is not None and options.get("model_version", version) != version:
        raise InvalidInput(f"the address says {version!r}", where="$.model_version")
    try:
        return msgspec.convert(
            {
                "model_name": name,
                "model_version": version,
                **options,
                "input_data": msgspec.Raw(msgspec.msgpack.encode(files)),
            },
            Ask,
            strict=False,
        )
    except msgspec.ValidationError as error:
        raise refusal_of(error) from None


def _read_form(body: bytes, boundary: bytes) -> tuple[list[bytes], dict[str, str]]:
    """Return the files in order, and the values of the other parts by their names."""
    if not boundary:
        raise Malformed("the content type of a form must name its boundary")
    parts = _Parts()
    try:
        parser = MultipartParser(boundary, parts.callbacks)
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise Malformed(f"the form cannot be read: {error}") from None
    if not parts.is_whole:
        raise Malformed("the form is truncated")
    if not parts.files:
        raise InvalidInput("there is no file in the form", where="$.input_data")
    return parts.files, parts.fields


class _Parts:
    """Collects the parts of a form from the parser. A part with a file name is a file."""

    def __init__(self) -> None:
        self.files: list[bytes] = []
        self.fields: dict[str, str] = {}
        self.is_whole = False
        self._piece = bytearray()
        self._name, self._value = b"", b""  # of a header
        self._disposition: dict[bytes, bytes] = {}

    @property
    def callbacks(self) -> MultipartCallbacks:
        """The callbacks for the parser."""
        return {
            "on_part_begin": self._on_part_begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }

    def _on_part_begin(self) -> None:
        self._piece.clear()
        self._disposition = {}
        if len(self.files) + len(self.fields) >= MOST_PARTS:
            raise Malformed(f"a form may have at most {MOST_PARTS} parts")

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = parse_options_header(self._value)[1]
        self._name, self._value = b"", b""

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._piece += memoryview(data)[start:end]

    def _on_part_end(self) -> None:
        if b"filename" in self._disposition:
            self.files.append(bytes(self._piece))
        else:
            name = self._disposition.get(b"name", b"").decode("utf-8", "replace")
            self.fields[name] = self._piece.decode("utf-8", "replace")

    def _on_end(self) -> None:
        self.is_whole = True
