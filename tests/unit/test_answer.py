"""What is answered: the quick way and the usual one write the same."""

from __future__ import annotations

import pytest

from modelyard.core.messages import Form
from modelyard.core.names import Target
from modelyard.gateway.answer import prediction_answer, prediction_head


@pytest.mark.parametrize("form", ["json", "msgpack"])
def test_both_ways_give_the_same_head(form: Form) -> None:
    answer = prediction_answer(
        Target("iris", "1"), b"[1]", form, request_id="an-id", cache_use="miss"
    )
    head = prediction_head(form, len(answer.body), request_id="an-id", cache_use="miss")
    assert answer.head == head
