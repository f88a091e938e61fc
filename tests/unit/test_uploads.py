"""Bodies that are files: forms as clients write them, and whatever may come."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.core.errors import InvalidInput, Malformed, RequestError
from modelyard.dispatch.dispatch import Ask
from modelyard.gateway.uploads import MOST_PARTS, is_upload, read_upload

FORM = b"multipart/form-data; boundary=edge"


def part(content: bytes, name: str, *, filename: str | None = None) -> bytes:
    """Give a part of a form, a file if it has a file name."""
    more = "" if filename is None else f'; filename="{filename}"'
    head = f'--edge\r\nContent-Disposition: form-data; name="{name}"{more}\r\n'
    return head.encode() + b"Content-Type: x/y\r\n\r\n" + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--edge--\r\n"


def read(
    body: bytes, content_type: bytes = FORM, *, query: bytes = b"", version: str | None = None
) -> Ask:
    return read_upload(body, content_type, name="cats", version=version, query=query)


def files_of(ask: Ask) -> list[bytes]:
    return msgspec.msgpack.decode(ask.input_data, type=list[bytes])


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (b"image/png", True),
        (b"IMAGE/PNG", True),
        (b"audio/wav; rate=8000", True),
        (b"video/mp4", True),
        (b"application/pdf", True),
        (b"application/octet-stream", True),
        (b"text/plain;charset=utf-8", True),
        (FORM, True),
        (b"multipart/mixed", False),
        (b"text/html", False),
        (b"application/json", False),
        (b"", False),
    ],
)
def test_what_a_file_is(content_type: bytes, expected: bool) -> None:
    assert is_upload(content_type) is expected


def test_the_files_of_a_form_are_instances_in_their_order() -> None:
    ask = read(form(part(b"\x89\r\n", "a", filename="1.png"), part(b"", "a", filename="2.png")))
    assert (ask.model_name, ask.model_version) == ("cats", None)
    assert files_of(ask) == [b"\x89\r\n", b""]


def test_the_other_fields_of_a_form_are_options_and_go_before_those_of_the_query() -> None:
    fields = [part(b"high", "priority"), part(b"1.5", "timeout_s"), part(b"2", "model_version")]
    query = b"timeout_s=9&timeout_s=8"
    ask = read(form(*fields, part(b"x", "f", filename="x")), query=query)
    assert (ask.priority, ask.timeout_s, ask.model_version) == ("high", 1.5, "2")
    assert read(form(part(b"x", "f", filename="x")), query=query).timeout_s == 8


def test_the_version_of_the_address_is_asked() -> None:
    assert read(b"x", b"image/png", version="3").model_version == "3"


def test_the_version_of_the_address_cannot_be_another_than_that_of_the_options() -> None:
    with pytest.raises(InvalidInput, match="the address says '3'"):
        read(b"x", b"image/png", version="3", query=b"model_version=2")
    assert read(b"x", b"image/png", version="3", query=b"model_version=3").model_version == "3"


@pytest.mark.parametrize(
    ("body", "content_type", "kind", "detail"),
    [
        (form(part(b"x", "a", filename="x")), b"multipart/form-data", Malformed, "boundary"),
        (b"", b"multipart/form-data; boundary=" + b"x" * 257, Malformed, "Boundary length 257"),
        (form(part(b"x", "a", filename="x"))[:-10], FORM, Malformed, "truncated"),
        (b"", FORM, Malformed, "truncated"),
        (b"no form", FORM, Malformed, "cannot be read"),
        (form(part(b"x", "timeout_s")), FORM, InvalidInput, "no file"),
        (form(part(b"x", "f", filename=""), part(b"1", "n")), FORM, InvalidInput, "no option 'n'"),
        (b"--edge\r\n\r\nx\r\n--edge--\r\n", FORM, InvalidInput, "no file"),
        (form(*[part(b"", "f", filename="x")] * (MOST_PARTS + 1)), FORM, Malformed, "parts"),
    ],
)
def test_a_form_that_is_none_is_refused(
    body: bytes, content_type: bytes, kind: type[RequestError], detail: str
) -> None:
    with pytest.raises(kind, match=detail):
        read(body, content_type)


@settings(max_examples=300)
@given(
    st.one_of(
        st.binary(max_size=100),
        st.lists(
            st.sampled_from(
                [
                    *(
                        b"--edge",
                        b"--",
                        b"\r\n",
                        b"\r",
                        b"content-disposition:",
                        b"form-data",
                        b";",
                    ),
                    *(
                        b'name="a"',
                        b'filename="b"',
                        b"filename*=utf-8''",
                        b"\xff",
                        b"=",
                        b'"',
                        b"x",
                    ),
                ]
            ),
            max_size=25,
        ).map(b"".join),
    ),
    st.sampled_from([FORM, FORM + b"'\"", b"multipart/form-data; boundary=\xff", b"image/png"]),
    st.binary(max_size=20) | st.sampled_from([b"priority=high", b"timeout_s=nan", b"a=%ff"]),
)
def test_whatever_comes_it_is_read_or_refused(body: bytes, kind: bytes, query: bytes) -> None:
    try:
        ask = read(body, kind, query=query)
    except RequestError as error:
        assert type(error) in (Malformed, InvalidInput)  # noqa: PT017
    else:
        assert files_of(ask)
