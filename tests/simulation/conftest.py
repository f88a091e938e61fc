"""What a simulation changes in its process is undone for the tests that come after it; and clients
of a broker, real and in memory.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest
from pamqp import commands

from modelyard.core.call import Call
from modelyard.transports.amqp.replies import Delivery
from tests.simulation.operators import Client, InMemoryOperator, Operator, RealOperator
from tests.simulation.serve import serving


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


@pytest.fixture(params=["real", "memory"])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    async with AsyncExitStack() as stack:
        operator: Operator
        if request.param == "real":
            operator = RealOperator(request.getfixturevalue("broker"))
        else:
            operator = InMemoryOperator(await stack.enter_async_context(serving()))
        client = Client(operator, stack)
        yield client
        connection = await client.connect()
        await connection.call(commands.Queue.Delete(queue=client.queue))
