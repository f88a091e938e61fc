"""What a channel publishes: messages put together from frames, routed, returned and confirmed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from pamqp import base, commands
from pamqp.header import ContentHeader

from tests.simulation.rabbitmq.refusal import Refused

if TYPE_CHECKING:
    from tests.simulation.rabbitmq.broker import InMemoryBroker


class Publishing:
    """One channel's.

    Args:
        broker: Where messages go.
        say: Sends a method.
        send: Sends a method with its content.
    """

    def __init__(
        self,
        broker: InMemoryBroker,
        *,
        say: Callable[[base.Frame], None],
        send: Callable[[base.Frame, bytes, list[bytes]], None],
    ) -> None:
        self._broker = broker
        self._say = say
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._publishing: tuple[str, str, bool] | None = None
        self._content: tuple[bytes, float | None, bool, int] | None = None
        self._body: list[bytes] = []
        self._has_confirms = False
        self._published = 0
        self._to_confirm: list[tuple[int, bool]] = []
        self._is_confirming = False

    def on_select(self, _: base.Frame) -> None:
        """Confirm what is published from now on."""
        self._has_confirms = True
        self._say(commands.Confirm.SelectOk())

    def see_that_none_is_begun(self) -> None:
        """A method comes, where the rest of a message may be expected."""
        if self._publishing is not None:
            raise Refused(505, "UNEXPECTED_FRAME - expected content", is_connection=True)

    def on_publish(self, method: commands.Basic.Publish) -> None:
        """A message begins."""
        self._publishing = (method.exchange, method.routing_key, method.mandatory)

    def on_header(self, header: ContentHeader, payload: bytes) -> None:
        """Its properties come."""
        if self._publishing is None or self._content is not None:
            raise Refused(505, "UNEXPECTED_FRAME - a header", is_connection=True)
        properties = header.properties
        assert properties is not None
        expires = None
        if properties.expiration is not None:
            if not str(properties.expiration).isdigit():
                raise Refused(406, f"PRECONDITION_FAILED - expiration {properties.expiration!r}")
            expires = self._broker.clock() + int(properties.expiration) / 1000
        is_persistent = properties.delivery_mode == 2
        self._content = (payload, expires, is_persistent, header.body_size)
        self._body = []
        if not header.body_size:
            self._on_message()

    def on_body(self, piece: bytes) -> None:
        """A piece of its body comes. A body that is too long never ends, as with RabbitMQ 3."""
        if self._content is None:
            raise Refused(505, "UNEXPECTED_FRAME - a body", is_connection=True)
        self._body.append(piece)
        if sum(map(len, self._body)) == self._content[3]:
            self._on_message()

    def _on_message(self) -> None:
        assert self._publishing is not None
        assert self._content is not None
        (exchange, key, is_mandatory), self._publishing = self._publishing, None
        (header, expires, is_persistent, _), self._content = self._content, None
        body, self._body = self._body, []
        self._published += 1
        if exchange and exchange not in self._broker.exchanges:
            raise Refused(404, f"NOT_FOUND - no exchange '{exchange}' in vhost '/'")
        is_routed, is_taken = self._broker.publish(
            exchange, key, header=header, body=body, expires=expires, is_persistent=is_persistent
        )
        if not is_routed and is_mandatory:
            back = commands.Basic.Return(
                reply_code=312, reply_text="NO_ROUTE", exchange=exchange, routing_key=key
            )
            self._send(back, header, body)
        if self._has_confirms:
            self._to_confirm.append((self._published, is_taken))

    def flush(self) -> None:
        """Confirm what has come, now or soon."""
        if not self._to_confirm or self._is_confirming:
            return
        delay_s = self._broker.confirm_delay_s
        if delay_s:
            self._is_confirming = True
            delay_s *= self._broker.chance.random()
            self._loop.call_later(delay_s, self._confirm)
        else:
            self._confirm()

    def _confirm(self) -> None:
        """Confirm what was published: several at once, where they were all taken."""
        self._is_confirming = False
        due, self._to_confirm = self._to_confirm, []
        count = 0
        for position, (number, is_taken) in enumerate(due):
            if not is_taken:
                self._say(commands.Basic.Nack(delivery_tag=number, multiple=False, requeue=False))
                count = 0
                continue
            count += 1
            is_last = position + 1 == len(due) or not due[position + 1][1]
            if is_last:
                self._say(commands.Basic.Ack(delivery_tag=number, multiple=count > 1))
                count = 0

    def close(self) -> None:
        """Forget what has come in part, and what is not confirmed."""
        self._publishing = self._content = None
        self._to_confirm.clear()
