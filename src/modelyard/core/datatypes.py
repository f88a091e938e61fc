"""The datatypes of the Open Inference Protocol, and which of them holds every value of which other.

BF16 is not among them: neither Python nor numpy knows it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["bool", "uint", "int", "float", "bytes"]


class Datatype(NamedTuple):
    """One of them.

    Attributes:
        name: In the protocol.
        size: Bytes of an element; 0 for BYTES, whose elements say their own.
        code: The struct module's.
        numpy: Numpy's, little-endian; empty for BYTES.
    """

    name: str
    kind: Kind
    size: int
    code: str
    numpy: str


BYTES = Datatype("BYTES", "bytes", 0, "", "")
BOOL = Datatype("BOOL", "bool", 1, "?", "|b1")
INT64 = Datatype("INT64", "int", 8, "q", "<i8")
FP16 = Datatype("FP16", "float", 2, "e", "<f2")
FP64 = Datatype("FP64", "float", 8, "d", "<f8")

DATATYPES: dict[str, Datatype] = {
    found.name: found
    for found in (
        BOOL,
        *(Datatype(f"UINT{8 * n}", "uint", n, c, f"<u{n}") for n, c in zip((1, 2, 4, 8), "BHIQ")),  # noqa: B905
        *(Datatype(f"INT{8 * n}", "int", n, c, f"<i{n}") for n, c in zip((1, 2, 4), "bhi")),  # noqa: B905
        INT64,
        FP16,
        Datatype("FP32", "float", 4, "f", "<f4"),
        FP64,
        BYTES,
    )
}

_EXACT_BITS = {2: 11, 4: 24, 8: 53}  # of the whole numbers that a float of this size holds


def of_numpy(kind: str, size: int) -> Datatype:
    """Return the datatype of a numpy dtype, by its kind (one of ``biuf``) and bytes per element."""
    wanted = {"b": "bool", "i": "int", "u": "uint", "f": "float"}[kind]
    return next(d for d in DATATYPES.values() if d.kind == wanted and d.size == size)


def holds(wanted: Datatype, given: Datatype) -> bool:
    """Return whether every value of ``given`` is also a value of ``wanted``.

    Of INT64 and UINT64 in FP64 not every one is: they are looked at one by one, see
    ``LARGEST_EXACT``.
    """
    if given == wanted:
        return True
    if BYTES in (given, wanted) or wanted is BOOL:
        return False
    if given is BOOL:
        return True
    if wanted.kind == given.kind:
        return wanted.size >= given.size
    if wanted.kind == "float":
        return 8 * given.size <= _EXACT_BITS[wanted.size] or wanted is FP64
    return wanted.kind == "int" and given.kind == "uint" and wanted.size > given.size


LARGEST_EXACT = 1 << 53
"""Whole numbers up to here, and down to its negative, are all in FP64."""
