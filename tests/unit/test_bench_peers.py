"""The arithmetic of the comparison with other systems: a wrong table would be worse than none."""

from pathlib import Path

import pytest

from bench.grpcload import read_figures
from bench.openloop import Outcome
from bench.page import BORDER, HAND_BORDER, write_own_part, write_peers_part
from bench.peers.figures import Book
from bench.peers.goals import Goals
from bench.peers.overload import figures_of
from bench.peers.page import make_tables
from bench.peers.samples import is_close
from bench.peers.systems import FOLDERS
from bench.peers.told import Told, read_told


def test_what_a_system_is_told_survives_the_environment() -> None:
    told = Told(("iris", "slow_each"), batch_size=1, runners=4, timeout_s=0.9, queue=7, grpc_port=9)
    assert read_told(told.environment()) == told
    assert read_told({}) == Told()


def test_a_figure_is_the_median_with_the_least_and_the_greatest() -> None:
    book = Book()
    for rate in (900, 1200, 1000):
        book.add("small", "64 connections", "Mosec", rate=rate)
    book.note("small", "Ray Serve", "its environment is not made")
    tables = make_tables(book)
    assert "| Mosec  | 1,000 (900 to 1,200) |" in tables
    assert "- small: Ray Serve: its environment is not made" in tables


def test_a_ratio_is_that_within_each_round() -> None:
    book = Book()
    for ours, theirs in ((1000, 500), (100, 100), (1000, 900)):
        book.add("small", "64 connections", "Modelyard embedded", rate=ours)
        book.add("small", "64 connections", "Mosec", rate=theirs)
    book.add("small", "64 connections", "Triton", rate=700)  # the others' rounds it missed
    cells = [line.split("|")[-2].strip() for line in make_tables(book).splitlines() if "|" in line]
    assert cells == ["of Modelyard's", "-" * 14, "1.00", "0.90", ""]


def test_calls_that_failed_in_a_trailer_are_seen_by_the_data_they_lack() -> None:
    said = """
finished in 2.00s, 500.00 req/s, 635.99KB/s
requests: 1000 total, 1064 started, 1000 done, 998 succeeded, 1 failed, 2 errored, 3 timeout
status codes: 998 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 1.24MB (1302516) total, 26.64KB (27276) headers (space savings 96.21%), 38KB (39600) data
"""
    seen = read_figures(said, [float(delay) for delay in range(101)], 44)
    assert (seen.answers, seen.unexpected, seen.socket_errors) == (998, 98, 6)
    assert (seen.rate, seen.p50_ms, seen.p99_ms, seen.max_ms) == (499, 50, 99, 100)


def test_a_book_is_the_same_after_a_file(tmp_path: Path) -> None:
    book = Book()
    book.add("start", "to the first answer", "Mosec", start=1.5)
    book.note("small", "KServe", "no")
    book.save(tmp_path / "figures.json", [("date", "today")])
    read, about = Book.load(tmp_path / "figures.json")
    assert list(read) == [figure._replace(values=tuple(figure.values)) for figure in book]
    assert (read.notes, about) == (book.notes, [("date", "today")])


@pytest.mark.parametrize(("embedded", "is_kept"), [(1299.0, False), (1300.0, True), (1500.0, True)])
def test_a_goal_is_held_against_the_best_peer_of_the_same_run(
    embedded: float, is_kept: bool
) -> None:
    book = Book()
    book.add("small", "64 connections", "Modelyard embedded", rate=embedded)
    book.add("small", "64 connections", "Mosec", rate=1000)
    (goal,) = Goals(book, ["Mosec"]).rows()
    assert goal.what == "small, 64 connections: answers/s, embedded / Mosec"
    assert goal.is_kept is is_kept


def test_where_less_is_better_the_least_peer_counts() -> None:
    book = Book()
    for name, mib in (("Modelyard embedded", 150), ("Mosec", 140), ("Ray Serve", 1200)):
        book.add("memory", "after the load", name, rss=mib)
    (goal,) = Goals(book, ["Mosec", "Ray Serve"]).rows()
    assert (goal.what, goal.figure) == ("memory: embedded / least of all peers", "1.07")
    assert goal.is_kept is False


def test_every_offered_request_is_in_one_of_the_shares() -> None:
    outcome = Outcome(
        offered=100,
        seconds=2,
        in_time=50,
        in_time_p99_ms=900,
        refused=40,
        refused_p99_ms=3,
        late=7,
        wrong=3,
        sent_late_p99_ms=0.5,
    )
    figures = figures_of(outcome, capacity=25)
    assert (figures["share"], figures["refused"], figures["lost"]) == (1.0, 0.4, 0.1)


def test_each_writer_of_the_page_leaves_the_other_s_part(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    write_own_part(page, "# Benchmarks\n\nshort\n")
    write_peers_part(page, "## Beside others\n")
    with page.open("a") as text:
        text.write(f"\n{HAND_BORDER}\n\n## By hand\n")
    write_own_part(page, "# Benchmarks\n\nshort again\n")
    write_peers_part(page, "## Beside others again\n")
    lines = page.read_text().splitlines()
    assert lines[:3] == ["# Benchmarks", "", "short again"]
    assert lines[4:] == [
        BORDER,
        "",
        "## Beside others again",
        "",
        HAND_BORDER,
        "",
        "## By hand",
    ]


def test_predictions_are_compared_to_the_precision_of_float32() -> None:
    assert is_close([1, [0.5]], [1, [0.5000001]])
    assert not is_close([1, [0.5]], [1, [0.51]])
    assert not is_close([1], [1, 2])
    assert not is_close("1", 1)


def test_readme_of_every_peer_is_there() -> None:
    folders = {path.parent for path in Path("bench/peers").glob("*/peer.py")}
    assert {folder.name for folder in folders} == set(FOLDERS)
    assert len(folders) == 8
    assert all((folder / "README.md").exists() for folder in folders)
