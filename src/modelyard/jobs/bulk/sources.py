"""The input of a run: a file of the place or at a URL, and how its rows are read."""

from __future__ import annotations

from typing import IO

from modelyard.core.errors import InvalidInput
from modelyard.jobs.bulk.interfaces import Place, Urls
from modelyard.jobs.bulk.mapping import Mapping
from modelyard.jobs.bulk.order import Mark, Order
from modelyard.jobs.bulk.pieces import HowMany, Pieces
from modelyard.jobs.bulk.reading import read_csv, read_lines


class FileSource:
    """Rows of a file. See ``run.Source``.

    Args:
        order: Names it.
        mapping: Makes instances of rows; None if lines are passed on as they are.
        place: Has it, if it is no URL.
        urls: Opens it, if it is one; None if there are none.
        most: How many rows the next piece should have.
    """

    def __init__(
        self,
        order: Order,
        mapping: Mapping | None,
        *,
        place: Place,
        urls: Urls | None,
        most: HowMany,
    ) -> None:
        self._order = order
        self._mapping = mapping
        self._place = place
        self._urls = urls
        self._most = most
        self._bytes: int | None = None
        self._rows: int | None = None

    def open(self, mark: Mark) -> tuple[Pieces, IO[bytes]]:
        """See ``Source``. Blocks."""
        order = self._order
        if order.is_url:
            if self._urls is None:
                raise InvalidInput("this server reads no URLs")
            stream, self._bytes = self._urls.open(order.input), self._urls.size(order.input)
        else:
            stream, self._bytes = self._place.open(order.input), self._place.size(order.input)
        try:
            return self._pieces(stream, mark), stream
        except BaseException:
            stream.close()
            raise

    def _pieces(self, stream: IO[bytes], mark: Mark) -> Pieces:
        order, mapping = self._order, self._mapping
        if order.format == "jsonl":
            return read_lines(stream, mapping, most=self._most, mark=mark, keep=order.keep)
        assert mapping is not None
        if order.format == "csv":
            return read_csv(stream, mapping, most=self._most, mark=mark, keep=order.keep)
        from modelyard.jobs.bulk.tables import open_table

        table = open_table(stream, order.format)
        self._rows = table.rows
        return table.pieces(mapping, most=self._most, mark=mark, keep=order.keep)

    def progress(self, mark: Mark) -> float | None:
        """See ``Source``."""
        if self._rows:
            return min(1.0, mark.row / self._rows)
        if self._bytes and mark.offset:
            return min(1.0, mark.offset / self._bytes)
        return None
