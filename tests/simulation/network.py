"""What lies between processes: streams of bytes that take their time, break, and lose what is in
them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from random import Random
from typing import Any, Protocol

from tests.simulation.loop import PROCESS, Process, VirtualLoop

SPLIT_SHARE = 0.03  # of what arrives, comes in two pieces


class Listener(Protocol):
    """Whoever takes connections."""

    @property
    def process(self) -> Process:
        """Where it runs."""
        ...

    @property
    def is_listening(self) -> bool:
        """Whether it takes any now."""
        ...

    def accept(self) -> asyncio.Protocol:
        """Give the protocol of a new connection."""
        ...


class Network:
    """All connections.

    Args:
        loop: Time.
        chance: For delays.
        latency_s: The shortest and the longest time that bytes take.
    """

    def __init__(
        self, loop: VirtualLoop, chance: Random, *, latency_s: tuple[float, float]
    ) -> None:
        self.loop = loop
        self.chance = chance
        self.links: list[Link] = []
        self.listeners: dict[int, Listener] = {}
        self.refused: set[str] = set()  # names of processes that cannot connect
        self.unheard: set[str] = set()  # names of processes whose packets are lost
        self._least_s, self._spread_s = latency_s[0], latency_s[1] - latency_s[0]
        loop.connect = self.connect

    def latency(self) -> float:
        """Draw how long bytes take."""
        return self._least_s + self._spread_s * self.chance.random()

    async def connect(
        self, make: Callable[[], asyncio.Protocol], host: str, port: int
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """Connect to a listener; see ``loop.create_connection``."""
        await asyncio.sleep(2 * self.latency())
        process = PROCESS.get()
        name = process.name if process else ""
        if name in self.unheard:
            await asyncio.sleep(127.0)
            raise TimeoutError("connection timed out")
        listener = self.listeners.get(port)
        if listener is None or not listener.is_listening or name in self.refused:
            raise ConnectionRefusedError(f"nobody listens at {host}:{port}")
        ours, theirs = make(), listener.accept()
        link = Link(self, process, ours, listener.process, theirs)
        self.links.append(link)
        listener.process.soon(theirs.connection_made, link.server)
        ours.connection_made(link.client)
        return link.client, ours

    def of(self, process: Process) -> list[Link]:
        """Give the open connections that a process has made."""
        return [link for link in self.links if link.owner is process]

    def forget(self, process: Process) -> None:
        """Reset the connections of a process that was killed."""
        for link in self.of(process):
            link.client.vanish()
            link.client.is_over = True
            link.closed()


class Link:
    """One connection: the ends of who made it and of who took it."""

    def __init__(
        self,
        network: Network,
        owner: Process | None,
        client: asyncio.Protocol,
        host: Process,
        server: asyncio.Protocol,
    ) -> None:
        self.network = network
        self.owner = owner
        context = owner.context if owner is not None else None
        self.client = End(network, client, context)
        self.server = End(network, server, host.context)
        self.client.peer, self.server.peer = self.server, self.client
        self.client.link = self.server.link = self

    def consumers(self) -> list[str]:
        """Give the tags that the client consumes under."""
        return list(getattr(self.client._protocol, "_consumers", ()))

    def closed(self) -> None:
        """Forget a connection that has ended on both sides."""
        if self.client.is_over and self.server.is_over and self in self.network.links:
            self.network.links.remove(self)


class End(asyncio.Transport):
    """One end of a connection: what is written here arrives at the peer.

    Attributes:
        stalled_until: Nothing arrives earlier.
        is_dropping: What is written is lost, and nobody is told.
        cut_after: After so many more bytes the connection is reset.
        flip_after: After so many more bytes one is damaged.
    """

    peer: End
    link: Link

    def __init__(
        self, network: Network, protocol: asyncio.Protocol, context: Context | None
    ) -> None:
        super().__init__()
        self.is_over = False
        self.stalled_until = 0.0
        self.is_dropping = False
        self.cut_after: int | None = None
        self.flip_after: int | None = None
        self.resets_when_written = False
        self._network = network
        self._loop = network.loop
        self._protocol = protocol
        self._context = context
        self._buffer = bytearray()
        self._is_on_its_way = False
        self._is_closing = False
        self._is_reading = True

    # What protocols call.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_closing or self.is_over:
            return
        if self.resets_when_written:
            self._end_later(self._network.latency(), ConnectionResetError("reset by peer"))
            self.is_dropping = True
        if self.is_dropping:
            return
        self._buffer += data
        if not self._is_on_its_way:
            self._send()

    def writelines(self, list_of_data: Any) -> None:
        for data in list_of_data:
            self.write(data)

    def close(self) -> None:
        if self._is_closing:
            return
        self._is_closing = True
        self._end_later(0.0, None)
        if not self._is_on_its_way and not self.is_dropping:
            self._send()

    def abort(self) -> None:
        if self.is_over:
            return
        self._is_closing = True
        self._end_later(0.0, None)
        self.vanish()

    def is_closing(self) -> bool:
        return self._is_closing

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def pause_reading(self) -> None:
        self._is_reading = False

    def resume_reading(self) -> None:
        self._is_reading = True
        if self.peer._buffer and not self.peer._is_on_its_way:
            self.peer._send()

    # What faults call.

    def vanish(self) -> None:
        """Be gone without a word of ours; the peer is told that the connection is reset."""
        self._buffer.clear()
        if not self.is_dropping:
            error = ConnectionResetError("reset by peer")
            self.peer._end_later(self._network.latency(), error)
        self.is_dropping = True

    def reset(self) -> None:
        """Reset the connection; what is on its way is lost."""
        for end in (self, self.peer):
            end._buffer.clear()
            end._end_later(0.0, ConnectionResetError("reset"))

    def leave_unnoticed(self, *, is_told_when_written: bool) -> None:
        """End here alone: the peer does not notice, or not before it writes."""
        self._buffer.clear()
        self.is_dropping = True
        self._end_later(0.0, ConnectionResetError("reset"))
        if is_told_when_written:
            self.peer.resets_when_written = True
        else:
            self.peer.is_dropping = True
            self.peer._buffer.clear()

    # On the way.

    def _send(self) -> None:
        self._is_on_its_way = True
        loop = self._loop
        when = max(loop.time() + self._network.latency(), self.stalled_until)
        loop.call_at(when, self._arrive, context=self.peer._context)

    def _arrive(self) -> None:
        """Hand over what was written; called in the peer's process."""
        self._is_on_its_way = False
        peer, now = self.peer, self._loop.time()
        if self.stalled_until > now:
            self._send()
            return
        if not peer._is_reading:
            return
        data = bytes(self._buffer)
        self._buffer.clear()
        if len(data) > 1 and self._network.chance.random() < SPLIT_SHARE:
            middle = self._network.chance.randrange(1, len(data))
            data, rest = data[:middle], data[middle:]
            self._buffer += rest
        data, is_cut = self._spoil(data)
        if data and not peer.is_over and not peer._is_closing:
            try:
                peer._protocol.data_received(data)
            except Exception as error:  # as asyncio's own transports do
                self._loop.call_exception_handler({"message": "data_received", "exception": error})
                peer.reset()
        if is_cut:
            self.reset()
        elif self._buffer:
            self._send()
        elif self._is_closing and not peer.is_over:
            peer._finish(None)

    def _spoil(self, data: bytes) -> tuple[bytes, bool]:
        if self.flip_after is not None and data:
            if self.flip_after < len(data):
                spoilt = bytearray(data)
                spoilt[self.flip_after] ^= 1 + self._network.chance.randrange(255)
                data, self.flip_after = bytes(spoilt), None
            else:
                self.flip_after -= len(data)
        if self.cut_after is not None:
            if self.cut_after <= len(data):
                return data[: self.cut_after], True
            self.cut_after -= len(data)
        return data, False

    def _end_later(self, delay_s: float, error: Exception | None) -> None:
        self._loop.call_later(delay_s, self._finish, error, context=self._context)

    def _finish(self, error: Exception | None) -> None:
        if self.is_over:
            return
        self.is_over = self._is_closing = True
        self._protocol.connection_lost(error)
        self.link.closed()
