"""Requests whose end is a matter of dispute, each with another one hidden behind or inside it.

The hidden one is ``HIDDEN``. Straight to the gateway a case is either refused, and then nothing
that follows is looked at; or it is one request, and the hidden one a part of its body; or the two
of them are two requests, beyond any doubt.
"""

from __future__ import annotations

import json
from typing import Literal, NamedTuple

from tests.support.raw import request_bytes

MARK = b"smuggled"
HIDDEN = b"GET /smuggled HTTP/1.1\r\nhost: x\r\nx-request-id: smuggled\r\n\r\n"
BODY = json.dumps({"model_name": "trick_model", "input_data": [{"nonce": 1}]}).encode()

Ending = Literal["refused", "one", "two"]


class Case(NamedTuple):
    """A request, and how it ends straight at the gateway."""

    name: str
    sent: bytes
    ending: Ending


def _post(*lines: bytes, body: bytes = b"") -> bytes:
    head = [b"POST /predict HTTP/1.1", b"host: test", b"content-type: application/json", *lines]
    return b"\r\n".join([*head, b"", b""]) + body


_CHUNKED = b"transfer-encoding: chunked"
_LENGTH = b"content-length: %d" % len(BODY)
_CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
_EMPTY = b"0\r\n\r\n" + HIDDEN  # nothing for who reads chunks, all of it for who counts
_ALL = b"content-length: %d" % len(_EMPTY)


def _cases(ending: Ending, found: dict[str, bytes]) -> list[Case]:
    return [Case(name, sent, ending) for name, sent in found.items()]


# Both lengths, and those that only some take for one.
_LENGTHS = {
    "a length and chunks": _post(_ALL, _CHUNKED, body=_EMPTY),
    "chunks and a length": _post(_CHUNKED, _ALL, body=_EMPTY),
    "a length of nothing and chunks": _post(b"content-length: 0", _CHUNKED, body=_EMPTY),
    "two equal lengths": _post(_LENGTH, _LENGTH, body=BODY + HIDDEN),
    "two lengths": _post(b"content-length: 0", _LENGTH, body=BODY + HIDDEN),
    "two lengths in capitals and not": _post(b"Content-Length: 0", _LENGTH, body=BODY + HIDDEN),
    "a list of lengths": _post(b"content-length: 5, 5", body=b"12345" + HIDDEN),
    "a length with a sign": _post(b"content-length: +%d" % len(BODY), body=BODY + HIDDEN),
    "a length below nothing": _post(b"content-length: -1", body=HIDDEN),
    "a hexadecimal length": _post(b"content-length: 0x5", body=b"12345" + HIDDEN),
    "a length with a space": _post(b"content-length: 1 0", body=b"1234567890" + HIDDEN),
    "a length with an underscore": _post(b"content-length: 1_0", body=b"1234567890" + HIDDEN),
    "a length with a fraction": _post(b"content-length: 5.0", body=b"12345" + HIDDEN),
    "a length of no digits": _post(b"content-length:", body=HIDDEN),
    "a length in other digits": _post(b"content-length: \xd9\xa5", body=b"12345" + HIDDEN),
    "a length that overflows": _post(b"content-length: 18446744073709551621", body=HIDDEN),
    "a length with a vertical tab": _post(b"content-length: \x0b5", body=b"12345" + HIDDEN),
    "a length with a NUL": _post(b"content-length: 5\x00", body=b"12345" + HIDDEN),
    "a folded length": _post(b"content-length:\r\n 5", body=b"12345" + HIDDEN),
    "a length that is continued": _post(b"content-length: 1\r\n 0", body=b"1234567890" + HIDDEN),
    "a space before the colon": _post(b"content-length : 5", body=b"12345" + HIDDEN),
}

# Chunks that only some take for chunks.
_CODINGS = {
    name: _post(*lines, body=_EMPTY)
    for name, lines in {
        "xchunked": (_ALL, b"transfer-encoding: xchunked"),
        "chunked with a space before the colon": (_ALL, b"transfer-encoding : chunked"),
        "chunked after a vertical tab": (_ALL, b"transfer-encoding:\x0bchunked"),
        "chunked after a form feed": (_ALL, b"transfer-encoding: \x0cchunked"),
        "chunked in quotes": (_ALL, b'transfer-encoding: "chunked"'),
        "chunked with a parameter": (_ALL, b"transfer-encoding: chunked;a=b"),
        "identity": (_ALL, b"transfer-encoding: identity"),
        "chunked, then identity": (_ALL, b"transfer-encoding: chunked, identity"),
        "identity, then chunked": (_ALL, b"transfer-encoding: identity, chunked"),
        "two headers, identity last": (_ALL, _CHUNKED, b"Transfer-Encoding: identity"),
        "two headers, chunked last": (_ALL, b"Transfer-Encoding: identity", _CHUNKED),
        "two headers without a length": (_CHUNKED, b"Transfer-Encoding: cow"),
        "no known coding and no length": (b"transfer-encoding: cow",),
        "an empty coding": (_ALL, b"transfer-encoding:"),
        "a comma alone": (_ALL, b"transfer-encoding: ,"),
        "folded": (_ALL, b"transfer-encoding:\r\n chunked"),
        "folded, without a length": (b"transfer-encoding:\r\n\tchunked",),
        "continued": (b"transfer-encoding: chunked\r\n , identity",),
        "behind a bare CR": (_ALL, b"x: y\rtransfer-encoding: chunked"),
        "behind a bare LF": (_ALL, b"x: y\ntransfer-encoding: chunked"),
        "with a NUL behind it": (_ALL, b"transfer-encoding: chunked\x00"),
        "with a NUL in its name": (_ALL, b"transfer-\x00encoding: chunked"),
        "with a space before it": (_ALL, b" transfer-encoding: chunked"),
        "with a letter of another alphabet": (_ALL, b"transfer-encoding: chun\xffked"),
    }.items()
}

_HEADS = {
    "chunks in HTTP/1.0": _post(_CHUNKED, body=_EMPTY).replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    "chunks in HTTP/1.0 that is kept": _post(
        _CHUNKED, b"connection: keep-alive", body=_EMPTY
    ).replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    "HTTP/0.9": b"GET /nothing\r\n\r\n" + HIDDEN,
    "HTTP/0.9 that is kept": b"GET /nothing\r\nconnection: keep-alive\r\n\r\n" + HIDDEN,
    "HTTP/1.2": HIDDEN.replace(b"1.1", b"1.2").replace(MARK, b"first") + HIDDEN,
    "HTTP/2.0": HIDDEN.replace(b"1.1", b"2.0").replace(MARK, b"first") + HIDDEN,
    "http in small letters": b"GET /nothing http/1.1\r\nhost: x\r\n\r\n" + HIDDEN,
    "a space in the target": b"GET /a HTTP/1.1\r\n b HTTP/1.1\r\nhost: x\r\n\r\n" + HIDDEN,
    "two words as target": b"GET /a b HTTP/1.1\r\nhost: x\r\n\r\n" + HIDDEN,
    "a NUL in the target": b"GET /a\x00 HTTP/1.1\r\nhost: x\r\n\r\n" + HIDDEN,
    "lines that end in LF": b"GET /nothing HTTP/1.1\nhost: x\n\n" + HIDDEN,
    "a head that ends in LF": b"GET /nothing HTTP/1.1\r\nhost: x\r\n\n" + HIDDEN,
    "lines that end in CR": b"GET /nothing HTTP/1.1\rhost: x\r\r" + HIDDEN,
    "a CR too many": b"GET /nothing HTTP/1.1\r\nhost: x\r\r\n\r\n" + HIDDEN,
    "a name with a space": b"GET /nothing HTTP/1.1\r\nhost: x\r\na b: c\r\n\r\n" + HIDDEN,
    "no name": b"GET /nothing HTTP/1.1\r\nhost: x\r\n: c\r\n\r\n" + HIDDEN,
    "two hosts": b"GET /nothing HTTP/1.1\r\nhost: x\r\nHost: y\r\n\r\n" + HIDDEN,
    "no colon": b"GET /nothing HTTP/1.1\r\nhost: x\r\ncontent-length\r\n\r\n" + HIDDEN,
    "a NUL in a value": b"GET /nothing HTTP/1.1\r\nhost: x\r\na: \x00\r\n\r\n" + HIDDEN,
    "a bare CR in a value": b"GET /nothing HTTP/1.1\r\nhost: x\r\na: b\rc: d\r\n\r\n" + HIDDEN,
    "a folded value": b"GET /nothing HTTP/1.1\r\nhost: x\r\na: b\r\n c\r\n\r\n" + HIDDEN,
    "a folded value behind an upgrade": (
        b"POST /nothing HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\ncontent-length: 0\r\n"
        b"upgrade: a\r\n 5\r\n\r\n" + HIDDEN
    ),
    "a first header that is folded": b"GET /nothing HTTP/1.1\r\n host: x\r\n\r\n" + HIDDEN,
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN,
    "a tunnel with a body": b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n" + _ALL + b"\r\n\r\n" + _EMPTY,
}

_FRAMING = {
    name: _post(_CHUNKED, body=body + HIDDEN)
    for name, body in {
        "a chunk of hexadecimal with 0x": b"0x5\r\n12345\r\n0\r\n\r\n",
        "a chunk with a sign": b"+5\r\n12345\r\n0\r\n\r\n",
        "a chunk below nothing": b"-1\r\n12345\r\n0\r\n\r\n",
        "a chunk that overflows 64 bits": b"10000000000000005\r\n12345\r\n0\r\n\r\n",
        "a chunk that overflows 32 bits": b"1" * 17 + b"\r\n12345\r\n0\r\n\r\n",
        "a chunk whose size ends in LF": b"5\n12345\r\n0\r\n\r\n",
        "a chunk whose size ends in CR": b"5\r12345\r\n0\r\n\r\n",
        "a chunk that ends in LF": b"5\r\n12345\n0\r\n\r\n",
        "a chunk that ends in nothing": b"5\r\n123450\r\n\r\n",
        "a chunk that ends in something": b"5\r\n12345XX0\r\n\r\n",
        "a chunk without a size": b"\r\n12345\r\n0\r\n\r\n",
        "a chunk with a space before its size": b" 5\r\n12345\r\n0\r\n\r\n",
        "an extension with a bare LF": b"5;a\n12345\r\n0\r\n\r\n",
        "an extension with a bare CR": b"5;a\rb\r\n12345\r\n0\r\n\r\n",
        "an extension with a NUL": b"5;a\x00\r\n12345\r\n0\r\n\r\n",
        "chunks that end in LF": b"5\r\n12345\r\n0\n\n",
        "a trailer with a bare LF": b"5\r\n12345\r\n0\r\na: b\n\r\n",
        "trailers that set a length": _CHUNKS[:-2] + b"content-length: 100\r\n\r\n",
        "trailers that set a coding": _CHUNKS[:-2] + b"transfer-encoding: chunked\r\n\r\n",
        "a trailer with a space in its name": b"5\r\n12345\r\n0\r\na b: c\r\n\r\n",
    }.items()
}

_ONE = {
    "a body that looks like a request": _post(b"content-length: %d" % len(HIDDEN), body=HIDDEN),
    "a chunk that looks like a request": _post(
        _CHUNKED, body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)
    ),
    "chunks by another name": _post(_ALL, b"transfer_encoding: chunked", body=_EMPTY),
    "a GET with a body": b"GET /nothing HTTP/1.1\r\nhost: x\r\n%b\r\n\r\n%b" % (_ALL, _EMPTY),
    "a HEAD with a body": b"HEAD /nothing HTTP/1.1\r\nhost: x\r\n%b\r\n\r\n%b" % (_ALL, _EMPTY),
    "a HEAD of a prediction": b"HEAD /predict HTTP/1.1\r\nhost: x\r\n%b\r\n\r\n%b" % (_ALL, _EMPTY),
    "a HEAD of an inference": (
        b"HEAD /v2/models/trick_model/infer HTTP/1.1\r\nhost: x\r\n%b\r\n\r\n%b" % (_ALL, _EMPTY)
    ),
    "an upgrade with a body": _post(
        b"connection: upgrade, http2-settings", b"upgrade: h2c", _ALL, body=_EMPTY
    ),
    "the last request": _post(_LENGTH, b"connection: close", body=BODY + HIDDEN),
    "the last request, in chunks": _post(_CHUNKED, b"connection: close", body=_CHUNKS + HIDDEN),
}

_TWO = {
    "a length with zeros": _post(b"content-length: 00%d" % len(BODY), body=BODY + HIDDEN),
    "a length with a tab": _post(b"content-length:\t%d\t" % len(BODY), body=BODY + HIDDEN),
    "chunks": _post(_CHUNKED, body=_CHUNKS + HIDDEN),
    "chunks in capitals": _post(b"TRANSFER-ENCODING: CHUNKED", body=_CHUNKS + HIDDEN),
    "chunks with zeros": _post(_CHUNKED, body=b"000" + _CHUNKS[:-5] + b"0000\r\n\r\n" + HIDDEN),
    "a chunk with an extension": _post(
        _CHUNKED, body=b'%x;a="b;c"\r\n%b\r\n0;d\r\n\r\n' % (len(BODY), BODY) + HIDDEN
    ),
    "a length that the connection names": _post(
        b"connection: content-length", _LENGTH, body=BODY + HIDDEN
    ),
    "an empty line between": _post(_LENGTH, body=BODY + b"\r\n" + HIDDEN),
    "an absolute target": request_bytes(b"", path="http://other/nothing", method="GET") + HIDDEN,
    "a target of another kind": request_bytes(b"", path="*", method="OPTIONS") + HIDDEN,
    "a HEAD": request_bytes(b"", path="/predict", method="HEAD") + HIDDEN,
    "a HEAD of an inference without a body": (
        request_bytes(b"", path="/v2/models/trick_model/infer", method="HEAD") + HIDDEN
    ),
}

CASES = [
    *_cases("refused", _LENGTHS | {f"coding: {name}": sent for name, sent in _CODINGS.items()}),
    *_cases("refused", _HEADS | _FRAMING),
    *_cases("one", _ONE),
    *_cases("two", _TWO),
]
