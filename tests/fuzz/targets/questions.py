"""Bodies of ``/predict``, in JSON and MessagePack: refused, or the same when encoded again.

The first byte says which form, and whether the URL names model and version.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from modelyard.core.errors import InvalidInput, Malformed
from modelyard.core.messages import Form
from modelyard.gateway.question import read_ask
from tests.fuzz.refusals import check_refusal


def run(data: bytes) -> None:
    choice, body = (data[0] if data else 0), data[1:]
    form: Form = "msgpack" if choice & 1 else "json"
    name = "iris" if choice & 2 else None
    version = "1" if choice & 4 else None
    try:
        ask = read_ask(body, form, name=name, version=version if name else None)
    except (Malformed, InvalidInput) as error:
        check_refusal(error)
        return
    if form == "json":
        said, given = _loads(body), _loads(bytes(ask.input_data))
        assert said["input_data"] == given
        assert said.get("model_name", name) in (ask.model_name, None)
        again = msgspec.json.encode(ask)
        assert msgspec.json.encode(read_ask(again, form)) == again
    else:
        again = msgspec.msgpack.encode(ask)
        assert msgspec.msgpack.encode(read_ask(again, form)) == again


def _loads(raw: bytes) -> Any:
    # Inside of the input msgspec does not look at strings: that is the runner's part.
    return json.loads(raw.decode("utf-8", "replace"), strict=False, parse_int=str)
