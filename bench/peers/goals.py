"""What Modelyard is to reach beside the others, computed from the figures of one run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bench.peers import large, many, mixed, overload, slow, small
from bench.peers.figures import Book, Figure
from bench.rows import Limit, Row, row

EMBEDDED, CLUSTER = "Modelyard embedded", "Modelyard cluster"
MOSEC, KSERVE = "Mosec", "KServe"
MANY, ONE = small.case_of(64), small.case_of(1)
EQUAL = small.case_of(64, small.EQUAL_HEADS)
ALONE = small.case_of(1, small.UNBATCHED)
# Of Mosec's answers/s: the shape, and the least with heads that differ and with equal ones.
BESIDE_MOSEC = ((EMBEDDED, "embedded", 1.3, 1.2), (CLUSTER, "cluster", 0.85, 1.0))


class Goals:
    """Reads a book; a goal whose figures are missing gives no row."""

    def __init__(self, book: Book, peers: Iterable[str]) -> None:
        self._book, self._peers = book, list(peers)

    def rows(self) -> list[Row]:
        """Give a row for each goal that can be judged."""
        return [*self._small(), *self._cached(), *self._slow(), *self._large(), *self._lean()]

    def _median(self, scenario: str, case: str, system: str, measure: str) -> float | None:
        found = self._book.find(scenario, case, system, measure)
        return found.median if found else None

    def _all(
        self, scenario: str, cases: Sequence[str], systems: Iterable[str], measure: str
    ) -> list[float]:
        return [
            figure.median
            for system in systems
            for case in cases
            if (figure := self._book.find(scenario, case, system, measure))
        ]

    def _ratio(
        self, what: str, ours: float | None, theirs: list[float], limit: Limit
    ) -> Iterator[Row]:
        """Hold ours against the best of theirs: the greatest, or the least where less is better."""
        if ours is None or not theirs:
            return
        best = max(theirs) if limit.sign == "≥" else min(theirs)
        if best > 0:
            yield row(what, [ours / best], "{:.2f}", limit)

    def _plain(self, what: str, figure: Figure | None, form: str, limit: Limit) -> Iterator[Row]:
        if figure is not None:
            yield row(what, figure.values, form, limit)

    def _small(self) -> Iterator[Row]:
        yield from self._beside_mosec()
        others = [peer for peer in self._peers if peer != MOSEC]
        yield from self._ratio(
            f"small, {MANY}: answers/s, embedded / best of the others",
            self._median("small", MANY, EMBEDDED, "rate"),
            self._all("small", [MANY], others, "rate"),
            Limit("≥", 10),
        )
        delays = {name: self._median("small", ONE, name, "p50") for name in (EMBEDDED, CLUSTER)}
        what = "small, 1 connection: p50,"
        yield from self._ratio(
            f"{what} embedded / best of all peers at their best",
            delays[EMBEDDED],
            self._all("small", [ONE, ALONE], self._peers, "p50"),
            Limit("<", 1),
        )
        yield from self._ratio(
            f"{what} cluster / Mosec batched",
            delays[CLUSTER],
            self._all("small", [ONE], [MOSEC], "p50"),
            Limit("≤", 0.4),
        )
        yield from self._ratio(
            f"{what} cluster / best but KServe and Mosec",
            delays[CLUSTER],
            self._all("small", [ONE, ALONE], [peer for peer in others if peer != KSERVE], "p50"),
            Limit("<", 1),
        )

    def _beside_mosec(self) -> Iterator[Row]:
        for name, shape, differing, equal in BESIDE_MOSEC:
            for case, least in ((MANY, differing), (EQUAL, equal)):
                yield from self._ratio(
                    f"small, {case}: answers/s, {shape} / Mosec",
                    self._median("small", case, name, "rate"),
                    self._all("small", [case], [MOSEC], "rate"),
                    Limit("≥", least),
                )

    def _cached(self) -> Iterator[Row]:
        echo = self._all("small", [MANY], ["bare ASGI echo"], "rate")
        for caching, least in ((", all cached", 0.85), (", all cached in Redis only", 0.6)):
            name = (EMBEDDED if caching == ", all cached" else CLUSTER) + caching
            ours = self._median("small", MANY, name, "rate")
            what = f"small, 64 connections: answers/s, {name} / echo"
            yield from self._ratio(what, ours, echo, Limit("≥", least))

    def _slow(self) -> Iterator[Row]:
        for name in (EMBEDDED, CLUSTER):
            for case in slow.CASES.values():
                figure = self._book.find("slow", case, name, "ideal")
                what = f"slow, {case}: {name}, share of the ideal"
                yield from self._plain(what, figure, "{:.0%}", Limit("≥", 0.97))
            figure = self._book.find("overload", overload.CASE, name, "share")
            what = f"overload: {name}, answered in time, share of the capacity"
            yield from self._plain(what, figure, "{:.0%}", Limit("≥", 0.95))
            figure = self._book.find("overload", overload.CASE, name, "refusal_p99")
            what = f"overload: {name}, p99 of refusals"
            yield from self._plain(what, figure, "{:.1f} ms", Limit("<", 10))

    def _large(self) -> Iterator[Row]:
        forms = [large.case_of("json"), large.case_of("binary")]
        for measure, sign in (("rate", "≥"), ("cpu", "<")):
            ours = self._all("large", forms, [EMBEDDED], measure)
            best = (max if sign == "≥" else min)(ours, default=None)
            what = f"large: {measure}, embedded / best of all peers, each in its best form"
            theirs = self._all("large", forms, self._peers, measure)
            yield from self._ratio(what, best, theirs, Limit(sign, 1))

    def _lean(self) -> Iterator[Row]:
        case = many.case_of(300)
        figure = self._book.find("many", case, EMBEDDED, "idle")
        yield from self._plain("many: an idle model", figure, "{:.1f} MiB", Limit("≤", 3))
        figure = self._book.find("many", case, EMBEDDED, "start")
        yield from self._plain("many: 300 models start", figure, "{:.1f} s", Limit("<", 30))
        for scenario, where, measure in (
            ("memory", "after the load", "rss"),
            ("start", "to the first answer", "start"),
        ):
            ours = self._median(scenario, where, EMBEDDED, measure)
            theirs = self._all(scenario, [where], self._peers, measure)
            what = f"{scenario}: embedded / least of all peers"
            yield from self._ratio(what, ours, theirs, Limit("<", 1))
        ours = self._median("mixed", mixed.BESIDE, EMBEDDED, "p99")
        theirs = self._all("mixed", [mixed.BESIDE], self._peers, "p99")
        what = "mixed: the fast model's p99, embedded / least of all peers"
        yield from self._ratio(what, ours, theirs, Limit("<", 1))
