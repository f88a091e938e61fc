"""What a broker does not let a client do."""

from __future__ import annotations


class Refused(Exception):
    """The channel, or the connection, is closed with this."""

    def __init__(self, code: int, text: str, *, is_connection: bool = False) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.is_connection = is_connection
