"""What the console's pages are made of, without a browser."""

from __future__ import annotations

import json
import logging
import re
import shlex
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Request, Response
from hypothesis import given
from hypothesis import strategies as st

from bench.made_up import make_app
from modelyard.console.figures import ago, duration, share, sparkline
from modelyard.console.instance_form import fields_of, read_instance
from modelyard.console.interfaces import Release
from modelyard.console.paging import MOST, paged
from modelyard.console.releasing import confirmed, encode, propose
from modelyard.console.snippets import snippets_of
from modelyard.core.errors import Conflict, InvalidInput, VersionNotFound
from modelyard.core.messages import Answers
from modelyard.core.names import Target
from modelyard.core.routes import Guard, Route
from modelyard.gateway.sessions import (
    COOKIE,
    credential_in,
    is_own_form,
    new_session,
    set_session,
    token_of,
)
from modelyard.settings import Settings
from modelyard.telemetry.faults import LOGGER, MOST_FAULTS, MOST_LINES, Faults
from modelyard.telemetry.history import EVERY_S, History, Moment
from modelyard.telemetry.metrics import Metrics

IRIS, RENT = Target("iris", "1"), Target("rent", "2")


class Now:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.time = 1_000_000.0

    def __call__(self) -> float:
        return self.time


class Kept:
    """A history, and the metrics that it is of."""

    def __init__(self) -> None:
        self.now, self.metrics = Now(), Metrics()
        self.history = History(self.metrics.readings, wall_clock=self.now)

    def pass_time(self, ticks: int = 1) -> None:
        for _ in range(ticks):
            self.now.time += EVERY_S
            self.history.take()

    def answer(self, target: Target, *seconds: float, code: str = "ok") -> None:
        for one in seconds:
            self.metrics.answered(target, code, one)


def test_a_window_has_what_happened_in_it_and_nothing_else() -> None:
    kept = Kept()
    kept.answer(IRIS, *[0.004] * 50)
    kept.pass_time(10)
    kept.answer(IRIS, *[0.2] * 30)
    kept.answer(IRIS, 0.2, 0.2, code="model_failed")
    kept.metrics.asked_cache(IRIS, "hit")
    kept.metrics.asked_cache(IRIS, "miss")
    kept.now.time += EVERY_S
    view = kept.history.view()
    window = view.window([IRIS], 60)
    assert (window.seconds, window.requests, window.failed) == (60, 32, 2)
    assert window.errors == pytest.approx(2 / 32)
    assert window.hits == 0.5
    assert 0.1 < (window.quantile(0.5) or 0) <= 0.25
    assert view.window([IRIS, RENT], 3600).requests == 82
    assert view.window([RENT], 60).quantile(0.99) is None
    assert (view.window([RENT], 60).errors, view.window([RENT], 60).rate) == (None, 0)


def test_a_window_knows_what_pools_measured() -> None:
    kept = Kept()
    pool = kept.metrics.of_pool(RENT)
    pool.batch_started([0.5, 0.7])
    pool.batch_answered(Answers([b"1", b"2"], model_s=0.2, sizes=[2]))
    kept.answer(RENT, 0.75, 0.95)
    kept.now.time += 1
    window = kept.history.view().window([RENT], 60)
    assert window.queue_s == pytest.approx(0.6)
    assert (window.model_s, window.batch_size) == (0.2, 2)
    assert window.mean_s == pytest.approx(0.85)
    assert window.seconds == 1


def test_an_hour_is_kept_and_no_more() -> None:
    kept = Kept()
    for _ in range(500):
        kept.answer(IRIS, 0.01)
        kept.pass_time()
    view = kept.history.view()
    assert view.window([IRIS], 1e9).requests == 3600 / EVERY_S
    series = view.series([IRIS], points=60)
    assert 55 <= len(series) <= 61
    assert view.rates(IRIS, points=60) == [window.rate for window in series]
    assert all(window.rate == pytest.approx(1 / EVERY_S) for window in series)
    assert series[-1].at == kept.now.time


def test_who_is_not_asked_takes_no_room() -> None:
    kept = Kept()
    kept.answer(IRIS, 0.01)
    kept.answer(RENT, 0.01)
    kept.pass_time()
    before: Moment = kept.history.moments[-1]
    kept.answer(IRIS, 0.01)
    kept.pass_time()
    after: Moment = kept.history.moments[-1]
    assert after.readings[RENT] is before.readings[RENT]
    assert after.readings[IRIS] is not before.readings[IRIS]


def test_faults_and_lines_are_kept_as_they_are_logged_and_in_bounds() -> None:
    faults, log = Faults(), logging.getLogger(f"{LOGGER}.test")
    log.warning("runner_lost", extra={"model": "iris/1", "cause": "before anybody listens"})
    with faults.listening():
        log.setLevel(logging.INFO)
        for number in range(2 * MOST_LINES):
            log.info("model_output", extra={"model": "iris/1", "text": f"line {number}"})
        for number in range(2 * MOST_FAULTS):
            log.warning("runner_lost", extra={"model": "iris/1", "cause": "hung", "how": number})
        told = {"text": "failed", "ids": ["r1"], "trace": "Traceback\nValueError: no"}
        log.error("model_output", extra={"model": "rent/2", **told})
        log.warning("model_failed", extra={"model": "rent/2", "id": "r1", "why": "it raised"})
    log.warning("runner_lost", extra={"model": "iris/1", "cause": "after that"})
    assert len(faults.lines("iris/1")) == MOST_LINES
    assert faults.lines("iris/1")[-1].text == f"line {2 * MOST_LINES - 1}"
    newest, *others = faults.faults()
    assert len(others) == MOST_FAULTS - 1
    assert (newest.kind, newest.requests) == ("model_failed", ("r1",))
    assert newest.last_lines == ("Traceback", "ValueError: no")
    assert others[0].how == str(2 * MOST_FAULTS - 1)


def test_a_long_list_has_pages() -> None:
    rows = list(range(2 * MOST + 1))
    assert [list(paged(rows, n, total=999).rows) for n in (1, 3)] == [rows[:MOST], rows[-1:]]
    assert [paged(rows, n, total=999).number for n in (-1, 0, 9)] == [1, 1, 3]
    assert paged([], 1, total=3)[1:] == (1, 1, 1, 0, 3)


async def test_hundreds_of_models_have_pages(tmp_path: Path) -> None:
    settings = Settings(state_folder=str(tmp_path))
    app = make_app(settings, models=2 * MOST + 1, jobs=None, has_figures=False)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
        for path in ("/console", "/console/releases"):
            pages = [(await http.get(f"{path}?page={n}")).text for n in (1, 2, 3)]
            models = [re.findall(r"name-<wbr>(\d+)</a>", page) for page in pages]
            assert [len(some) for some in models] == [MOST, MOST, 1]
            assert len({one for some in models for one in some}) == 2 * MOST + 1
            assert f"{MOST + 1} to {2 * MOST} of {2 * MOST + 1}" in pages[1]
            assert ['rel="next"' in page for page in pages] == [True, True, False]
            assert ['rel="prev"' in page for page in pages] == [False, True, True]
            few = (await http.get(f"{path}?q=name-00")).text
            assert f"10 of {2 * MOST + 1}" in few
            assert "Pages" not in few


# Forms


def array_of(item: dict[str, Any], **defs: Any) -> dict[str, Any]:
    return {"type": "array", "items": item, **({"$defs": defs} if defs else {})}


FOUR = {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4}
FLAT = {
    "type": "object",
    "properties": {
        "area": {"type": "number", "exclusiveMinimum": 0, "description": "square metres"},
        "rooms": {"type": "integer", "minimum": 1},
        "heating": {"enum": ["gas", "wood"]},
        "has_garden": {"type": "boolean", "default": False},
        "floor": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
        "at": {"$ref": "#/$defs/Place"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["area", "rooms", "heating", "at", "tags"],
}
PERSON = {
    "type": "object",
    "properties": {
        "age": {"anyOf": [{"type": "number"}, {"type": "null"}]},
        "born": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        "town": {"type": "string", "default": "Ulm"},
    },
    "required": ["age"],
}
PLACE = {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]}
SCHEMA = array_of({"$ref": "#/$defs/Flat"}, Flat=FLAT, Place=PLACE)


def test_a_form_has_a_field_for_each_part_of_an_instance() -> None:
    example = {"area": 80.5, "rooms": 3, "heating": "wood", "at": {"town": "Ulm"}, "tags": ["new"]}
    fields = {field.label: field for field in fields_of(SCHEMA, example)}
    kinds = {label: field.kind for label, field in fields.items()}
    assert kinds == {
        **{"area": "number", "rooms": "whole", "heating": "choice", "has_garden": "yes"},
        **{"floor": "whole", "at.town": "text", "tags": "json"},
    }
    assert fields["area"].hint == "square metres, more than 0"
    assert (fields["heating"].choices, fields["heating"].value) == (("gas", "wood"), "wood")
    assert not fields["floor"].is_required
    assert [field.name for field in fields_of(array_of(FOUR), [1, 2, 3, 4])] == [
        *("i.0", "i.1", "i.2", "i.3"),
    ]


def test_an_instance_is_what_the_form_says() -> None:
    sent = {
        **{"i.area": "80.5", "i.rooms": "3", "i.heating": "gas", "i.floor": ""},
        **{"i.at.town": "Ulm", "i.tags": '["new"]', "i.has_garden": "on"},
    }
    flat = {"area": 80.5, "rooms": 3, "heating": "gas", "has_garden": True}
    assert read_instance(SCHEMA, sent) == {**flat, "at": {"town": "Ulm"}, "tags": ["new"]}
    assert read_instance(array_of(FOUR), {f"i.{n}": str(n) for n in range(4)}) == [0, 1, 2, 3]
    assert read_instance(array_of({"type": "string"}), {"i": "a\r\nday"}) == "a\nday"
    assert read_instance(array_of({"type": "string"}), {"i": ""}) == ""
    assert read_instance(array_of(PERSON), {"i.age": "", "i.born": "", "i.town": ""}) == {
        **{"age": None, "town": ""},
    }
    assert read_instance(None, {"i": '{"a": 1}'}) == {"a": 1}
    with pytest.raises(InvalidInput, match=r"rooms: '3\.5' is not a whole number"):
        read_instance(SCHEMA, {**sent, "i.rooms": "3.5"})
    with pytest.raises(InvalidInput, match="tags: 'new' is not JSON"):
        read_instance(SCHEMA, {**sent, "i.tags": "new"})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(JSON)
def test_no_example_breaks_a_form(example: object) -> None:
    for schema in (SCHEMA, array_of(FOUR), array_of({"type": "boolean"})):
        assert fields_of(schema, example)


def test_what_is_too_large_for_fields_is_one_of_json() -> None:
    image = {"type": "array", "items": FOUR, "minItems": 20, "maxItems": 20}
    (field,) = fields_of(array_of(image), [[0.0] * 4] * 20)
    assert (field.name, field.kind, field.hint) == ("i", "json", "20 x 4 numbers, as JSON")
    (field,) = fields_of(array_of({"type": "number", "maximum": 3.4e38, "minimum": 0}), 1)
    assert field.hint == "at least 0"
    circle = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}
    assert fields_of(array_of({"$ref": "#/$defs/Node"}, Node=circle), None)


def test_code_to_copy_is_code() -> None:
    for wants_key in (False, True):
        curl, python, script = snippets_of(
            "http://x", "rent", [{"note": 'it\'s "new"'}], wants_key=wants_key
        )
        compile(python.code, "snippet", "exec")
        *_, pieces = snippets_of("http://x", "rent", [1], wants_key=wants_key, gives_pieces=True)
        assert "Accept: text/event-stream" in shlex.split(pieces.code)
        words = shlex.split(curl.code)
        assert json.loads(words[-1]) == {"input_data": [{"note": 'it\'s "new"'}]}
        assert ("mdy_" in python.code, "X-API-Key" in script.code) == (wants_key, wants_key)


# Releases

CANARY = Release("rent", 3, Route({"1": 90, "2": 10}, guard=Guard()), Route({"1": 100}))


def test_a_change_is_proposed_as_commands_would_make_it() -> None:
    both = {"1", "2"}
    assert propose(CANARY, {"to": "rollback"}, both).route == CANARY.before
    assert propose(CANARY, {"to": "promote", "version": "2"}, both).route == Route({"2": 100})
    assert propose(CANARY, {"to": "clear"}, both).route is None
    weights = {"to": "weights", "weight.1": "40", "weight.2": "60"}
    assert propose(CANARY, weights, both).route == Route({"1": 40, "2": 60}, guard=Guard())
    for wrong in (
        {"to": "weights", "weight.1": "40"},
        {"to": "weights", "weight.1": "nan"},
        {"to": "weights", "weight.1": "140", "weight.2": "-40"},
        {"to": "weights"},
        {"to": "anything"},
    ):
        with pytest.raises(InvalidInput):
            propose(CANARY, wrong, both)
    with pytest.raises(InvalidInput, match="never had a route"):
        propose(Release("rent"), {"to": "rollback"}, both)
    with pytest.raises(VersionNotFound, match="no worker serves rent 2"):
        propose(CANARY, {"to": "promote", "version": "2"}, {"1"})


def test_what_is_confirmed_is_what_was_shown() -> None:
    route = Route({"2": 100})
    sent = {"number": "3", "route": encode(route)}
    assert confirmed(CANARY, sent, {"1", "2"}) == route
    assert confirmed(CANARY, {**sent, "route": ""}, {"1"}) is None
    with pytest.raises(Conflict):
        confirmed(CANARY, {**sent, "number": "2"}, {"1", "2"})
    with pytest.raises(VersionNotFound):
        confirmed(CANARY, sent, {"1"})
    with pytest.raises(InvalidInput):
        confirmed(CANARY, {**sent, "route": '{"weights": {"1": 50}}'}, {"1"})


# Sessions


def asked(session: str = "", **headers: str) -> Request:
    lines = {"host": "yard.example", "cookie": f"a=1; {COOKIE}={session}", **headers}
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in lines.items()]
    return Request({"type": "http", "headers": raw, "scheme": "http", "path": "/", "server": None})


def test_a_session_tells_its_key_and_a_form_its_session() -> None:
    session = new_session("mdy_key")
    assert credential_in(session) == b"Bearer mdy_key"
    assert credential_in(new_session()) == b""
    for strange in ("", "k.ä", "k.=", "x.bWR5"):
        assert credential_in(strange) in (b"", b"Bearer ")
    token = token_of(session)
    assert is_own_form(asked(session), token)
    assert is_own_form(asked(session, origin="https://yard.example"), token)
    assert not is_own_form(asked(session, origin="https://other.example"), token)
    assert not is_own_form(asked(session, origin="null"), token)
    assert not is_own_form(asked(session, sec_fetch_site="same-site"), token)
    assert not is_own_form(asked(new_session()), token)
    assert not is_own_form(asked(""), token_of(""))


def test_a_cookie_is_secure_where_the_browser_speaks_tls() -> None:
    for request, is_secure in ((asked(), False), (asked(x_forwarded_proto="https"), True)):
        response = Response()
        set_session(request, response, new_session())
        assert ("Secure" in response.headers["set-cookie"]) == is_secure


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "\u2013"), (0.0000123, "0.01 ms"), (0.0123, "12 ms"), (2.5, "2.5 s"), (75, "75 s")],
)
def test_figures_have_two_or_three_digits(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_shares_and_times_are_told_as_people_do() -> None:
    assert [share(part) for part in (None, 0, 0.0004, 0.034, 0.5, 1)] == [
        *("\u2013", "0 %", "< 0.1 %", "3.4 %", "50 %", "100 %"),
    ]
    assert [ago(s) for s in (0, 45, 150, 7200, 200_000)] == [
        *("just now", "45 s ago", "2 min ago", "2 h ago", "2 d ago"),
    ]
    assert sparkline([0, 0, 0], height=5) == ""
    assert sparkline([0, 2, 1], height=6) == "0,6 1,0 2,3"
