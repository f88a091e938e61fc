"""Messages through the broker: one that can be decoded is the same when it is encoded again.

The first byte says which kind, and whether the checksum is put right.
"""

from __future__ import annotations

from zlib import crc32

import msgspec

from modelyard.transports.amqp import envelope

DECODERS = (
    envelope.decode_bundle,
    envelope.decode_answers,
    envelope.decode_refusal,
    envelope.decode_status,
    envelope.decode_card,
    envelope.decode_hello,
    envelope.decode_pieces,
    envelope.decode_notice,
)


def run(data: bytes) -> None:
    choice, body = (data[0] if data else 0), data[1:]
    if choice < 0x80:
        body += crc32(body).to_bytes(envelope.CHECKSUM_BYTES, "big")
    decode = DECODERS[choice % len(DECODERS)]
    try:
        found = decode(body)
    except msgspec.DecodeError:
        return
    # What is not there has its default, which may be a whole number where a float is read.
    again = bytes(envelope.encode(decode(bytes(envelope.encode(found)))))
    assert envelope.encode(decode(again)) == again
