"""What ``modelyard predict`` sends: JSON, files, and rows of CSV read by the model's schema."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest

from modelyard.cli.instances import read_instances, read_rows
from modelyard.cli.mistakes import UsageError


class House(msgspec.Struct):
    area: Annotated[float, msgspec.Meta(gt=0)]
    town: str
    rooms: int | None = None
    kind: Literal["flat", "house"] = "flat"
    has_garden: bool = False


NUMBERS, TEXTS, HOUSES = list[list[float]], list[str], list[House]


def rows(text: str, annotation: Any) -> list[Any]:
    return read_rows(text, schema=msgspec.json.schema(annotation), source="rows.csv")


@pytest.mark.parametrize(
    ("text", "annotation", "expected"),
    [
        ("5.1,3.5\n6,3.0\n", NUMBERS, [[5.1, 3.5], [6, 3.0]]),
        ("length,width\n5.1,3.5\n", NUMBERS, [[5.1, 3.5]]),
        ("5.1,3.5\r\n\r\n6,3\r\n", NUMBERS, [[5.1, 3.5], [6, 3]]),
        ('a film\n"good, and long"\n12\n', TEXTS, ["a film", "good, and long", "12"]),
        ("n\n1\n2\n", list[int], [1, 2]),
        ("true\nFALSE\n", list[bool], [True, False]),
        ("1\n\n", list[int | None], [1]),
        (
            "town,area,rooms,has_garden\nUlm,80.5,3,true\n0731,20,,\n",
            HOUSES,
            [
                {"town": "Ulm", "area": 80.5, "rooms": 3, "has_garden": True},
                {"town": "0731", "area": 20},
            ],
        ),
        ("x,y\n1,two\n", list[dict[str, Any]], [{"x": 1, "y": "two"}]),
    ],
)
def test_rows_become_what_the_model_takes(text: str, annotation: Any, expected: list[Any]) -> None:
    assert rows(text, annotation) == expected


@pytest.mark.parametrize(
    ("text", "annotation", "said"),
    [
        ("1,2\n3,x\n", NUMBERS, "rows.csv, row 2, column 2: 'x' is no number"),
        ("one,two\n", NUMBERS, "rows.csv, row 1, column 1: 'one' is no number"),
        ("a,b\n", TEXTS, "rows.csv, row 1: 2 cells; the model takes one"),
        ("town,area\nUlm\n", HOUSES, "rows.csv, row 2: 1 cells, and 2 names"),
        ("town,area\nUlm,big\n", HOUSES, "rows.csv, row 2, area: 'big' is no number"),
    ],
)
def test_what_does_not_fit_is_told_by_row_and_column(text: str, annotation: Any, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        rows(text, annotation)
    assert str(caught.value) == said


def test_a_house_from_a_row_is_a_house() -> None:
    given = rows("town,area,kind\nUlm,80.5,house\n", HOUSES)
    assert msgspec.convert(given, HOUSES) == [House(area=80.5, town="Ulm", kind="house")]


def test_a_file_is_json_or_csv_by_its_name(tmp_path: Path) -> None:
    for name, text in {"a.json": "[1, 2]", "b.csv": "1\n2\n", "c.CSV": "\ufeff1\n2\n"}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        given = read_instances(
            f"@{tmp_path / name}", schema=partial(msgspec.json.schema, list[int])
        )
        assert given == [1, 2]


@pytest.mark.parametrize("name", ["nowhere.json", "nowhere.csv", "."])
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_instances(f"@{tmp_path / name}", schema=dict)
