"""What is printed when all models have loaded: short, and right as it stands."""

from __future__ import annotations

import json
import shlex

import pytest

from modelyard.core.manifest import Limits
from modelyard.core.messages import Announcement, Schema, State
from modelyard.core.names import Target
from modelyard.display import farewell, stopping

URL = "http://127.0.0.1:8000"
LONG = json.dumps([[0.5] * 1000]).encode()


def known(name: str, example: bytes = b"null", state: State = "ready") -> Announcement:
    return Announcement(
        target=Target(name, "1"),
        state=state,
        description="",
        limits=Limits(),
        cache_ttl_s=0,
        max_batch_size=1,
        runners=1,
        runners_ready=1,
        schema=Schema(b"{}", b"{}", example),
    )


def test_a_short_example_is_shown_whole() -> None:
    text = farewell(URL, [known("long", LONG), known("it's", b'["it\'s"]')])
    words = shlex.split(text.splitlines()[-1])
    assert json.loads(words[-1]) == {"model_name": "it's", "input_data": ["it's"]}


def test_where_a_key_is_wanted_the_request_has_that_of_the_environment() -> None:
    words = shlex.split(farewell(URL, [known("iris", b"[1]")], wants_key=True).splitlines()[-1])
    assert words[:4] == ["curl", "-s", "-H", "x-api-key: $MODELYARD_API_KEY"]


def test_a_long_example_is_fetched_and_not_shown() -> None:
    text = farewell(URL, [known("none"), known("long", LONG)])
    assert len(text) < 400
    assert f"curl -s {URL}/models/long/example | curl -s {URL}/predict" in text
    assert text.endswith("-d @-")


@pytest.mark.parametrize("state", ["failed", "stopped"])
def test_where_no_model_is_up_that_is_said(state: State) -> None:
    assert "No model is up" in farewell(URL, [known("bad", b"[1]", state)])


def test_sleeping_models_are_no_failure() -> None:
    text = farewell(URL, [known("sleepy", b"[1]", "asleep")])
    assert "No model is up" not in text


def test_the_end_says_what_is_being_finished() -> None:
    assert stopping(1, drain_s=30) == (
        "Finishing 1 request, for 30 s at most; Ctrl-C ends at once."
    )
    assert "Finishing 7 requests" in stopping(7, drain_s=30)
