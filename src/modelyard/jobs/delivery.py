"""A callback, in each of the shapes in which it is passed on."""

from __future__ import annotations

from typing import Literal

import msgspec

DeliveryState = Literal["pending", "delivered", "failed"]


class Parcel(msgspec.Struct, frozen=True, kw_only=True):
    """A callback that is to be sent.

    Attributes:
        id: The same at each attempt, so that a receiver knows it again.
        tenant: Whose job it tells of.
        url: Where it goes.
        host: Of that, with the port.
        body: What it says.
        attempts: How often it was sent, with this time.
    """

    id: str
    tenant: str
    url: str
    host: str
    body: str
    attempts: int


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """What came of sending a callback.

    Attributes:
        id: Of the callback.
        state: What it is by now.
        status: Of the answer; None if there was none.
        error: Why it was not delivered.
        due: When to send it again; None for never.
    """

    id: str
    state: DeliveryState
    status: int | None = None
    error: str | None = None
    due: float | None = None


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A callback as it is now. Times are Unix time, in seconds.

    Attributes:
        id: Its ``webhook-id``.
        kind: What it tells: ``job.succeeded``, …
        url: Where it goes.
        state: pending, delivered or failed.
        created: When its job came to its end.
        attempts: How often it was sent.
        due: When it is sent again; null for never.
        finished: When it was delivered or given up.
        status: Of the last answer.
        error: Why the last attempt failed.
    """

    id: str
    kind: str
    url: str
    state: DeliveryState
    created: float
    attempts: int
    due: float | None
    finished: float | None
    status: int | None
    error: str | None
