"""The arithmetic of what a request costs beside the baseline and beside another checkout."""

from pathlib import Path

import pytest

from bench.baseline import Baseline
from bench.costs import ECHO, RISE, SHAPES, gateway_rows, name_of, processor_rows
from bench.peers.figures import Book
from bench.turns import CASES, SCENARIO, ratio, ratios
from tests.unit.gateway_cost import CASES as COUNTED

CASE, SHAPE = CASES[0], "embedded"


def book_of(ours: list[float], echoes: list[float]) -> Book:
    """Give a book with these microseconds of processor, one for each round."""
    book = Book()
    for title, rounds in ((SHAPES[SHAPE].title, ours), (ECHO.title, echoes)):
        for cpu in rounds:
            book.add(SCENARIO, CASE.title, title, cpu=cpu)
    return book


def baseline_of(share: float) -> Baseline:
    """Give a baseline in which everything is this share of the echo's."""
    processor = {name_of(shape, case): share for shape in SHAPES for case in CASES}
    shares = dict.fromkeys(COUNTED, share)
    return Baseline({}, shares, shares, processor)


def test_the_baseline_has_a_figure_for_all_that_is_measured() -> None:
    baseline = Baseline.load()
    assert set(baseline.instructions) == set(baseline.gateway) == set(COUNTED)
    assert set(baseline.processor) == {name_of(shape, case) for shape in SHAPES for case in CASES}


def test_a_ratio_is_taken_within_its_round() -> None:
    # The machine is three times as busy in the second round, for both alike.
    book = book_of([20, 60, 22], [10, 30, 10])
    assert ratios(book, CASE, SHAPES[SHAPE].title, ECHO.title, measure="cpu") == [2, 2, 2.2]
    assert ratio(book, CASE, SHAPES[SHAPE].title, ECHO.title, measure="cpu") == 2


@pytest.mark.parametrize(("share", "is_kept"), [(2.0, True), (2.09, True), (2.11, False)])
def test_more_than_five_per_cent_above_the_baseline_is_missed(share: float, is_kept: bool) -> None:
    assert RISE == 1.05
    baseline = baseline_of(2.0)
    (processor,) = processor_rows(book_of([10 * share], [10]), baseline.processor)
    assert processor.is_kept is is_kept
    gateway = gateway_rows("instructions", dict.fromkeys(COUNTED, share), baseline.instructions)
    assert {row.is_kept for row in gateway} == {is_kept}


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    baseline = baseline_of(1.5)
    baseline.save(tmp_path / "baseline.json")
    assert Baseline.load(tmp_path / "baseline.json") == baseline
