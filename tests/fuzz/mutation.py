"""Changes inputs at random, the same with each run: what a fuzzer does, without its feedback."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

LONGEST_BYTES = 8192
MOST_CHANGES = 4

# What parsers stumble over: limits, structure, and what is no text.
PIECES = (
    *(b"\x00", b"\x7f", b"\x80", b"\xff", b"\xff\xff\xff\xff", b"\x00\x00\x00\x00"),
    *(b"\r\n", b"\n", b"\r\n\r\n", b" ", b"\t", b'"', b"\\", b"\\ud800", b"\xed\xa0\x80", b"\xc3"),
    *(b"[", b"]", b"{", b"}", b"[[[[[[[[", b":", b",", b"null", b"true", b"nan", b"inf", b"-1"),
    *(b"0", b"1e999", b"-0.0", b"18446744073709551616", b"9" * 400, b"9" * 4400),
    *(b"\xc4", b"\xc7", b"\xca\x7f\xc0\x00\x00", b"\xcf", b"\xd9", b"\xdc\xff\xff", b"\xdf"),
)


def mutations(seeds: Sequence[bytes], *, count: int, seed: str) -> Iterator[bytes]:
    """Give ``count`` changed seeds."""
    random = Random(seed)
    for _ in range(count):
        data = random.choice(seeds)
        for _ in range(random.randint(1, MOST_CHANGES)):
            data = _change(data, seeds, random)
        yield data[:LONGEST_BYTES]


def _change(data: bytes, seeds: Sequence[bytes], random: Random) -> bytes:
    start, end = sorted(random.randint(0, len(data)) for _ in range(2))
    near = min(end, start + random.randint(1, 8))
    piece, other = random.choice(PIECES), random.choice(seeds)
    changed: tuple[bytes, ...] = (
        data[:start] + random.randbytes(1) + data[start + 1 :],
        data[:start] + data[near:],
        data[:start] + piece + data[start:],
        data[:start] + piece + data[near:],
        data[:start] + data[start:end] * random.randint(2, 4) + data[end:],
        data[:start] + other[random.randint(0, len(other)) :],
        data[:end],
    )
    return random.choice(changed)
