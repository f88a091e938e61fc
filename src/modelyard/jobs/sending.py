"""Sends one callback: to an address that was checked, and no other.

No HTTP library does it: each looks the host up by itself, again, and may get another address then.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Mapping
from concurrent.futures import Executor
from functools import partial
from typing import NamedTuple
from urllib.parse import SplitResult

from modelyard.jobs.addresses import Destinations, as_address, host_of

MOST_HEAD_BYTES = 16 * 1024
_MOST_INTERIM = 5
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: [^\r\n]*)?\r\n")
_RETRY_AFTER = re.compile(rb"^retry-after:([^\r\n]{1,60})\r$", re.IGNORECASE | re.MULTILINE)


class NotSent(Exception):
    """There was no answer; the text says why. ``is_final``: none will ever come."""

    def __init__(self, why: str, *, is_final: bool = False) -> None:
        super().__init__(why)
        self.is_final = is_final


class Answer(NamedTuple):
    """What a receiver said. ``retry_after``: when it wants to be asked again, in its own words:
    seconds, or a date. Empty if it said nothing of that.
    """

    status: int
    retry_after: str = ""


class Sender:
    """Sends callbacks.

    Args:
        destinations: Where they may go.
        timeout_s: How long one may take, from the look-up of its host to the head of its answer.
        tls: With which servers are checked.
        lookups: Looks hosts up, which blocks; of its own, so that slow ones hold up nobody else.
    """

    def __init__(
        self,
        destinations: Destinations,
        *,
        timeout_s: float,
        tls: ssl.SSLContext,
        lookups: Executor,
    ) -> None:
        self._lookups = lookups
        self._destinations = destinations
        self._timeout_s = timeout_s
        self._tls = tls

    async def send(self, parts: SplitResult, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send a callback to a URL that was checked; returns what the receiver says.

        Raises:
            NotSent: It says nothing.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._send(parts, headers, body)
        except TimeoutError:
            raise NotSent(f"no answer within {self._timeout_s:g} s") from None
        except asyncio.IncompleteReadError as error:
            raise NotSent("no answer: the receiver closed the connection") from error
        except OSError as error:
            raise NotSent(f"no answer: {error}") from error
        except asyncio.LimitOverrunError:
            raise NotSent("the head of the answer is too long") from None

    async def _send(self, parts: SplitResult, headers: Mapping[str, str], body: bytes) -> Answer:
        host, port = host_of(parts)
        address = await self._address_of(host, port, is_plain=parts.scheme == "http")
        is_tls = parts.scheme == "https"
        reader, writer = await asyncio.open_connection(
            address,
            port,
            limit=MOST_HEAD_BYTES,
            ssl=self._tls if is_tls else None,
            server_hostname=host if is_tls else None,
        )
        try:
            peer = as_address(writer.get_extra_info("peername")[0])
            if peer != as_address(address):
                raise NotSent("it was connected to another address than was asked for")
            writer.write(_request(parts, headers, body))
            await writer.drain()
            return await _read_answer(reader)
        finally:
            writer.transport.abort()  # nothing else of it is wanted

    async def _address_of(self, host: str, port: int, *, is_plain: bool) -> str:
        """Return the address of a host, if that may be called."""
        look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._lookups, look_up)
        names = [str(info[4][0]) for info in found]
        for name in names:
            address = as_address(name)
            if address is not None and self._destinations.may_reach(address, is_plain=is_plain):
                return name
        raise NotSent("its host has no address that this server calls", is_final=True)


def _request(parts: SplitResult, headers: Mapping[str, str], body: bytes) -> bytes:
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [
        f"POST {path} HTTP/1.1",
        f"host: {parts.netloc}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        "user-agent: modelyard",
        "connection: close",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


async def _read_answer(reader: asyncio.StreamReader) -> Answer:
    for _ in range(_MOST_INTERIM):
        head = await reader.readuntil(b"\r\n\r\n")
        found = _STATUS.match(head)
        if found is None:
            raise NotSent("what answers is no HTTP")
        status = int(found[1])
        if status >= 200:
            wanted = _RETRY_AFTER.search(head)
            return Answer(status, "" if wanted is None else wanted[1].decode("latin-1").strip())
    raise NotSent("there was no answer among those that announce one")
