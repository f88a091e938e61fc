"""One connection to the broker: frames in, frames out."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from pamqp import base, commands, frame
from pamqp.exceptions import PAMQPException
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from tests.simulation.rabbitmq.channel import Channel
from tests.simulation.rabbitmq.queue import Consumer
from tests.simulation.rabbitmq.refusal import Refused

if TYPE_CHECKING:
    from tests.simulation.rabbitmq.broker import InMemoryBroker

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
FRAME_MAX = 131_072
CHANNEL_MAX = 2047
_HEADER = struct.Struct(">BHI")
_END = b"\xce"
_CONTENT, _BODY = 2, 3
_CAPABILITIES = {
    "publisher_confirms": True,
    "basic.nack": True,
    "consumer_cancel_notify": True,
    "connection.blocked": True,
    "authentication_failure_close": True,
    "per_consumer_qos": True,
}


class Peer(asyncio.Protocol):
    """A connection with one channel."""

    def __init__(self, broker: InMemoryBroker) -> None:
        self._broker = broker
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._received = bytearray()
        self._is_greeted = self._is_over = False
        self._is_blocked = False
        self._can_be_blocked = self._can_be_cancelled = False
        self._number = 1  # of the channel
        self._channel: Channel | None = None
        self._heard = self._said = 0.0
        self._heartbeat_s = 0.0

    # Called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._broker.peers.append(self)

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        self._received += data
        if not self._is_blocked:
            self._read()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()

    # Called by the broker.

    def shut(self, *, is_polite: bool) -> None:
        """End the connection because the broker ends."""
        self._is_over = True
        if self._channel is not None:
            self._channel.give_back()
        if is_polite and self._is_greeted:
            close = commands.Connection.Close(
                reply_code=320,
                reply_text="CONNECTION_FORCED - broker forced connection closure with reason "
                "'shutdown'",
                class_id=0,
                method_id=0,
            )
            self._transport.write(frame.marshal(close, 0))
            self._transport.close()
        else:
            self._transport.abort()

    def unblock(self) -> None:
        """Read on: the alarm is over."""
        if self._is_blocked:
            self._is_blocked = False
            if self._can_be_blocked:
                self._tell(commands.Connection.Unblocked(), channel=0)
            self._read()

    def cancelled(self, consumer: Consumer) -> None:
        """Tell of a queue that is gone."""
        if self._channel is not None:
            self._channel.forget(consumer)
        if self._can_be_cancelled and not self._is_over:
            self._tell(commands.Basic.Cancel(consumer_tag=consumer.tag, nowait=True))

    # In.

    def _read(self) -> None:
        data, position = self._received, 0
        try:
            if not self._is_greeted:
                if len(data) < len(PROTOCOL_HEADER):
                    return
                if data[:8] != PROTOCOL_HEADER:
                    self._transport.write(PROTOCOL_HEADER)
                    self._leave()
                    self._transport.close()
                    return
                position, self._is_greeted = 8, True
                self._greet()
            while len(data) - position >= 7 and not (self._is_over or self._is_blocked):
                kind, channel, size = _HEADER.unpack_from(data, position)
                if size > FRAME_MAX:
                    raise Refused(501, f"FRAME_ERROR - a frame of {size}", is_connection=True)
                end = position + 7 + size
                if len(data) <= end:
                    break
                if data[end] != 0xCE:
                    raise Refused(501, "FRAME_ERROR - no end", is_connection=True)
                whole = bytes(data[position : end + 1])
                position = end + 1
                self._on_frame(kind, channel, whole)
        except Refused as refused:
            self._refuse(refused)
        except (PAMQPException, ValueError, LookupError, TypeError, struct.error) as error:
            self._refuse(Refused(502, f"SYNTAX_ERROR - {error}", is_connection=True))
        finally:
            del self._received[:position]
        if self._channel is not None:
            self._channel.publishing.flush()

    def _greet(self) -> None:
        properties: dict[str, Any] = {"product": "InMemoryBroker", "capabilities": _CAPABILITIES}
        start = commands.Connection.Start(server_properties=properties, mechanisms="PLAIN")
        self._tell(start, channel=0)

    def _on_frame(self, kind: int, channel: int, whole: bytes) -> None:
        if kind == _BODY:
            if opened := self._opened(channel):
                opened.publishing.on_body(whole[7:-1])
            return
        received = frame.unmarshal(whole)[2]
        if isinstance(received, ContentHeader):
            if opened := self._opened(channel):
                opened.publishing.on_header(received, whole[7:-1])
        elif isinstance(received, base.Frame):
            self._on_method(received, channel)

    def _on_method(self, method: base.Frame, channel: int) -> None:
        handler = _HANDLERS.get(method.name)
        if handler is not None:
            self._number = channel or self._number
            handler(self, method)
        elif opened := self._opened(channel):
            opened.publishing.see_that_none_is_begun()
            if isinstance(method, commands.Basic.Publish) and self._broker.has_alarm:
                self._is_blocked = True
                if self._can_be_blocked:
                    self._tell(commands.Connection.Blocked(reason="low on memory"), channel=0)
            opened.on_method(method)

    def _opened(self, channel: int) -> Channel | None:
        """Give the channel if it is open; a frame for another ends the connection."""
        if self._channel is not None and channel != self._number:
            raise Refused(504, "CHANNEL_ERROR - expected 'channel.open'", is_connection=True)
        return self._channel

    def _refuse(self, refused: Refused) -> None:
        """Close what is to be closed."""
        if refused.is_connection or self._channel is None:
            self._tell(
                commands.Connection.Close(
                    reply_code=refused.code, reply_text=refused.text[:255], class_id=0, method_id=0
                ),
                channel=0,
            )
            self._leave()
            self._transport.close()
            return
        self._tell(
            commands.Channel.Close(
                reply_code=refused.code, reply_text=refused.text[:255], class_id=0, method_id=0
            )
        )
        self._close_channel()

    # Shaking hands.

    def _on_start_ok(self, method: commands.Connection.StartOk) -> None:
        if method.response != "\0guest\0guest":
            raise Refused(403, "ACCESS_REFUSED - Login was refused", is_connection=True)
        claimed = cast("dict[str, Any]", method.client_properties or {}).get("capabilities", {})
        self._can_be_blocked = bool(claimed.get("connection.blocked"))
        self._can_be_cancelled = bool(claimed.get("consumer_cancel_notify"))
        tune = commands.Connection.Tune(channel_max=CHANNEL_MAX, frame_max=FRAME_MAX, heartbeat=60)
        self._tell(tune, channel=0)

    def _on_tune_ok(self, method: commands.Connection.TuneOk) -> None:
        self._heartbeat_s = float(method.heartbeat or 0)
        if self._heartbeat_s:
            self._loop.call_later(self._heartbeat_s / 2, self._beat)

    def _beat(self) -> None:
        """Say that we live, and see whether the client does."""
        if self._is_over:
            return
        now = self._loop.time()
        if now - self._heard > 2 * self._heartbeat_s and not self._is_blocked:
            self._transport.abort()
            self._leave()
            return
        if now - self._said >= self._heartbeat_s / 2:
            self._said = now
            self._transport.write(Heartbeat().marshal())
        self._loop.call_later(self._heartbeat_s / 2, self._beat)

    def _on_open(self, method: commands.Connection.Open) -> None:
        if method.virtual_host != "/":
            raise Refused(530, f"NOT_ALLOWED - no vhost {method.virtual_host}", is_connection=True)
        self._tell(commands.Connection.OpenOk(), channel=0)

    def _on_close(self, _: base.Frame) -> None:
        self._tell(commands.Connection.CloseOk(), channel=0)
        self._leave()
        self._transport.close()

    def _on_channel_open(self, _: base.Frame) -> None:
        self._channel = Channel(self._broker, self, say=self._tell, send=self._send)
        self._tell(commands.Channel.OpenOk())

    def _on_channel_close(self, _: base.Frame) -> None:
        self._close_channel()
        self._tell(commands.Channel.CloseOk())

    # Out, and the end.

    def _tell(self, method: base.Frame, *, channel: int | None = None) -> None:
        if self._is_over:
            return
        self._said = self._loop.time()
        self._transport.write(frame.marshal(method, self._number if channel is None else channel))

    def _send(self, method: base.Frame, header: bytes, body: list[bytes]) -> None:
        """Send a method with its content."""
        if self._is_over:
            return
        self._said = self._loop.time()
        channel = self._number
        parts = [frame.marshal(method, channel), _HEADER.pack(_CONTENT, channel, len(header))]
        parts += [header, _END]
        for piece in body:
            parts += [_HEADER.pack(_BODY, channel, len(piece)), piece, _END]
        self._transport.write(b"".join(parts))

    def _close_channel(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def _leave(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._close_channel()
            self._broker.left(self)


_HANDLERS: dict[str, Callable[[Peer, Any], None]] = {
    "Connection.StartOk": Peer._on_start_ok,
    "Connection.TuneOk": Peer._on_tune_ok,
    "Connection.Open": Peer._on_open,
    "Connection.Close": Peer._on_close,
    "Connection.CloseOk": lambda peer, _: None,
    "Channel.Open": Peer._on_channel_open,
    "Channel.Close": Peer._on_channel_close,
    "Channel.CloseOk": lambda peer, _: None,
}
