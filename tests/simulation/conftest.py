"""What a simulation changes in its process is undone for the tests that come after it."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator

import pytest

from modelyard.core.call import Call
from modelyard.transports.amqp.replies import Delivery


@pytest.fixture(autouse=True)
def _undone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    log = logging.getLogger("modelyard")
    for kind in (Call, Delivery):
        monkeypatch.setattr(kind, "__hash__", kind.__hash__)
    level, is_propagating = log.level, log.propagate
    yield
    log.setLevel(level)
    log.propagate = is_propagating
    gc.unfreeze()
    gc.enable()
