"""HTTP that blocks. Threads may share it: each request has a connection to itself."""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection

from modelyard.calling.address import Address
from modelyard.calling.replies import CONNECT_TIMEOUT_S, KEEP_ALIVE_S, reply_of
from modelyard.client.calls import Request
from modelyard.client.exchange import Lost, Reply, TimedOut

_PIECE = 256 * 1024


class _SocketConnection(HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class BlockingHttp:
    """Sends requests to one gateway."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._idle: deque[tuple[HTTPConnection, float]] = deque()

    def send(
        self, request: Request, headers: Mapping[str, str], *, give_up: float
    ) -> Reply | Lost | TimedOut:
        """Send a request, and wait for the answer until ``time.monotonic()`` is ``give_up``."""
        connection = self._take()
        try:
            reply, is_last = self._exchange(connection, request, headers, give_up)
        except TimeoutError as error:
            connection.close()
            return TimedOut(error) if time.monotonic() >= give_up else Lost(error)
        except (OSError, HTTPException) as error:
            connection.close()
            return Lost(error)
        except BaseException:
            connection.close()
            raise
        if is_last:
            connection.close()
        else:
            self._idle.append((connection, time.monotonic()))
        return reply

    def _exchange(
        self,
        connection: HTTPConnection,
        request: Request,
        headers: Mapping[str, str],
        give_up: float,
    ) -> tuple[Reply, bool]:
        if connection.sock is None:
            connection.timeout = min(CONNECT_TIMEOUT_S, _left_s(give_up))
            connection.connect()
        connection.sock.settimeout(_left_s(give_up))
        path = self._address.path + request.path
        connection.request(request.method, path, request.body, {**request.headers, **headers})
        response = connection.getresponse()
        body = self._read(connection, response, give_up)
        fields = {name.lower(): value for name, value in response.getheaders()}
        return reply_of(response.status, fields, body), response.will_close

    def _read(self, connection: HTTPConnection, response: HTTPResponse, give_up: float) -> bytes:
        pieces = []
        while piece := response.read(_PIECE):
            pieces.append(piece)
            if connection.sock is not None:  # it has closed it already if nothing comes after
                connection.sock.settimeout(_left_s(give_up))
        return b"".join(pieces)

    def _take(self) -> HTTPConnection:
        """Return a connection that nobody uses, or a new one."""
        while self._idle:
            connection, since = self._idle.pop()
            if time.monotonic() - since < KEEP_ALIVE_S:
                return connection
            connection.close()
        address = self._address
        if address.socket:
            return _SocketConnection(address.socket)
        kind = HTTPSConnection if address.is_secure else HTTPConnection
        return kind(address.host, address.port)


def _left_s(give_up: float) -> float:
    left_s = give_up - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("the deadline has passed")
    return left_s
