"""Code that uses the client, tested without a socket, as ``modelyard_client.testing`` shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from modelyard.client import (
    ConnectionFailed,
    ModelyardError,
    Overloaded,
    RateLimited,
    Retry,
    ShuttingDown,
    Unavailable,
)
from modelyard.client.testing import FakeModels
from tests.client.either import Connect

AT_ONCE = Retry(attempts=3, base_s=0)


def echo(instances: Any) -> Any:
    return instances


def failing(*errors: Exception) -> Any:
    """A model that raises each of these once, and then answers."""
    left = list(errors)

    def model(instances: Any) -> Any:
        if left:
            raise left.pop(0)
        return instances

    return model


def test_what_was_asked_can_be_looked_at(connect: Connect) -> None:
    models = FakeModels({"m": echo})
    with connect(transport=models, headers={"authorization": "Bearer key"}) as client:
        client.predict("m", [{"x": 1}], version="1", timeout_s=2, priority="high", fresh=True)
        client.predict("m", [1])
    asked, bare = models.questions
    assert (asked.model, asked.instances, asked.version) == ("m", [{"x": 1}], "1")
    assert (asked.timeout_s, asked.priority, asked.fresh) == (2, "high", True)
    assert asked.headers["authorization"] == "Bearer key"
    assert (bare.version, bare.timeout_s, bare.priority, bare.fresh) == (None, None, None, False)


def test_arrays_are_arrays_on_both_sides(connect: Connect) -> None:
    images = np.arange(12, dtype="float32").reshape(2, 2, 3)
    models = FakeModels({"sum": lambda instances: instances.sum(axis=2)})
    with connect(transport=models) as client:
        sums = client.predict("sum", images)
        assert np.array_equal(sums, images.sum(axis=2))
        assert sums.dtype == "float32"
        assert np.array_equal(client.predict("sum", list(images)), sums)


@pytest.mark.parametrize("error", [Overloaded("full"), ShuttingDown("bye"), Unavailable("no")])
def test_no_capacity_is_retried(connect: Connect, error: ModelyardError) -> None:
    models = FakeModels({"m": failing(error, error)})
    with connect(transport=models, retry=AT_ONCE) as client:
        assert client.predict("m", [1]) == [1]
    assert len(models.questions) == 3


def test_what_is_raised_in_the_end_is_what_the_gateway_said(connect: Connect) -> None:
    models = FakeModels({"m": failing(*[Overloaded("full", retry_after_s=0)] * 9)})
    with connect(transport=models, retry=AT_ONCE) as client:
        with pytest.raises(Overloaded, match="full") as caught:
            client.predict("m", [1])
        assert (caught.value.status, caught.value.retry_after_s) == (503, 0)
        assert caught.value.request_id == "fake-3"
        assert len(models.questions) == 3


def test_a_limit_of_ones_own_is_not_retried(connect: Connect) -> None:
    models = FakeModels({"m": failing(RateLimited("slower", retry_after_s=7))})
    with connect(transport=models, retry=AT_ONCE) as client:
        with pytest.raises(RateLimited) as caught:
            client.predict("m", [1])
        assert (caught.value.status, caught.value.retry_after_s) == (429, 7)
        assert len(models.questions) == 1


def test_a_retry_that_cannot_be_in_time_is_not_waited_for(connect: Connect) -> None:
    models = FakeModels({"m": failing(Overloaded("full", retry_after_s=3600))})
    with connect(transport=models, timeout_s=5) as client, pytest.raises(Overloaded):
        client.predict("m", [1])
    assert [asked.timeout_s for asked in models.questions] == [5]


def test_readiness_can_be_played(connect: Connect) -> None:
    models = FakeModels({})
    with connect(transport=models) as client:
        assert client.ready()
        models.is_ready = False
        assert not client.ready()


def test_a_gateway_that_is_not_there_is_not_ready(connect: Connect) -> None:
    with connect("http://127.0.0.1:1", retry=Retry(attempts=2, base_s=0)) as client:
        assert not client.ready()
        with pytest.raises(ConnectionFailed, match=r"after .* and 2 tries"):
            client.models()
