"""Which datatype holds every value of which other, beside what numpy says of it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from modelyard.core.datatypes import BYTES, DATATYPES, FP16, Datatype, holds, of_numpy

NUMERIC = [found for found in DATATYPES.values() if found is not BYTES]
PAIRS = list(itertools.product(NUMERIC, NUMERIC))


def test_there_are_the_thirteen_of_the_protocol() -> None:
    assert len(DATATYPES) == 13
    assert "BF16" not in DATATYPES


@pytest.mark.parametrize(("wanted", "given"), PAIRS, ids=lambda found: found.name)
def test_one_holds_another_as_numpy_says(wanted: Datatype, given: Datatype) -> None:
    is_exact_in_numpy = np.can_cast(given.numpy, wanted.numpy, "safe")
    assert holds(wanted, given) == is_exact_in_numpy


@pytest.mark.parametrize("other", NUMERIC, ids=lambda found: found.name)
def test_bytes_and_numbers_hold_nothing_of_each_other(other: Datatype) -> None:
    assert not holds(BYTES, other)
    assert not holds(other, BYTES)
    assert holds(BYTES, BYTES)


@pytest.mark.parametrize("datatype", NUMERIC, ids=lambda found: found.name)
def test_numpy_and_struct_agree_on_each(datatype: Datatype) -> None:
    dtype = np.dtype(datatype.numpy)
    assert of_numpy(dtype.kind, dtype.itemsize) is datatype
    assert dtype.itemsize == datatype.size
    if datatype is not FP16:  # numpy has no letter for it that struct has
        assert np.dtype(datatype.code) == dtype
