"""Uploads: the first line is the content type, the second the query, the rest the body."""

from __future__ import annotations

import logging

import msgspec

from modelyard.core.errors import InvalidInput, Malformed
from modelyard.gateway.uploads import is_upload, read_upload
from tests.fuzz.refusals import check_refusal

logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # it logs each damage


def run(data: bytes) -> None:
    content_type, _, rest = data.partition(b"\n")
    query, _, body = rest.partition(b"\n")
    if not is_upload(content_type):
        return
    try:
        ask = read_upload(body, content_type, name="iris", version=None, query=query)
    except (Malformed, InvalidInput) as error:
        check_refusal(error)
        return
    files = msgspec.msgpack.decode(ask.input_data, type=list[bytes])
    assert files
    assert all(file in body for file in files)
    assert ask.model_name == "iris"
