"""Shares: how several gateways divide a caller's limits, without a round trip per request.

Each gateway writes on a board how much is asked of it, and reads how much is asked of the others.
Of a limit it may then use what the others leave, and if together they are asked for more, the part
that it has of the demand. A board that is away leaves the shares as they were.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Protocol

from modelyard.access.accounts import Accounts

EXCHANGE_S = 0.25

log = logging.getLogger(__name__)

Demands = Mapping[str, tuple[float, float]]
"""By the name of a meter: cost per second, and requests in flight."""


class Board(Protocol):
    """Where gateways see each other's demand."""

    async def exchange(self, demands: Demands) -> list[Demands]:
        """Write this gateway's demand, and return that of each other gateway.

        Raises:
            OSError: The board is away.
        """
        ...


class Shares:
    """Divides the limits of accounts.

    Args:
        accounts: The accounts of this gateway.
        board: Where gateways see each other's demand.
    """

    def __init__(self, accounts: Accounts, board: Board) -> None:
        self._accounts = accounts
        self._board = board
        self._is_well = True

    async def run(self) -> None:
        """Divide until cancelled."""
        while True:
            await asyncio.sleep(EXCHANGE_S)
            await self.exchange()

    async def exchange(self) -> None:
        """Tell the others, hear from them, and divide."""
        meters = [meter for account in self._accounts for meter in account.meters]
        own = {meter.name: meter.measure() for meter in meters}
        asked = {name: demand for name, demand in own.items() if any(demand)}
        try:
            others = await self._board.exchange(asked)
        except OSError as error:
            if self._is_well:
                log.warning("limits_not_shared", extra={"why": str(error)})
            self._is_well = False
            return
        self._is_well = True
        for meter in meters:
            demands = [other[meter.name] for other in others if meter.name in other]
            sums = sum(d[0] for d in demands), sum(d[1] for d in demands)
            meter.share(sums, own[meter.name][1], gateways=len(others) + 1)
